//! What execution providers the machine has.

use super::{
    boundary,
    cast::Out,
    failure::{Failure, qg_error},
    guard::{qg_guard_options, read_config},
    status::qg_status,
    text::qg_text,
    unload::keep_loaded,
};

/// Lists every execution provider, as a JSON array of objects: `provider` is its name in the configuration (`cpu`, `cuda`,
/// `webgpu`, `directml`, `coreml`), `available` tells whether a guard can be opened on it here, `devices` what it can compute
/// on (each `index`, as its setting `device` has it, `name` and `kind`: `cpu`, `gpu` or `npu`), and `reason` why it is not
/// available, in one line, or null. The text is yours to free. `options` are those that a guard would be opened with, and may
/// be NULL: the defaults; which provider they choose makes no difference.
///
/// Each provider that may be there makes a session of one addition, which takes up to a few seconds.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT; QG_ERROR_CONFIG; QG_ERROR_RUNTIME_NOT_FOUND or QG_ERROR_RUNTIME_UNUSABLE if there is
/// no ONNX Runtime.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_providers(
    options: *const qg_guard_options,
    json: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (config, json) = unsafe { (read_config(options)?, Out::new(json, "json")?) };
        keep_loaded();
        let all = crate::providers(&config)?;
        let text = serde_json::to_string(&all).map_err(|error| Failure::Panic(error.to_string()))?;
        json.write(qg_text::allocate(text));
        Ok(())
    })
}
