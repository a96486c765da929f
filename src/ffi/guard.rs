//! `qg_guard`: an opened bundle.

use std::{
    ffi::{CString, c_char},
    mem::offset_of,
    sync::Arc,
};

use safer_ffi::derive_ReprC;
use serde::Serialize;

use super::{
    boundary,
    cast::{Object, Out, OutArray, free_object, object, text},
    failure::{Failure, qg_error},
    grows::{self, Grows, check_size},
    memory::{c_string, give},
    result::{QG_HEADS_ANSWER, QG_HEADS_PROMPT, QG_MAX_CATEGORIES, qg_span},
    status::qg_status,
    text::qg_text,
    unload::keep_loaded,
};
use crate::{Config, Error, Guard, Info, Labels, process::Process};

/// An opened bundle: heavy, shared, for any number of threads at once.
#[derive_ReprC]
#[repr(opaque)]
pub struct qg_guard {
    pub(super) guard: Guard,
    pub(super) categories: Categories,
}

/// What categories a guard knows, also for what outlives it.
#[derive(Clone)]
pub(super) struct Categories {
    /// Their names, by the number of the heads.
    pub(super) names: Arc<[Vec<CString>; 2]>,
    pub(super) query: Arc<Labels>,
    pub(super) response: Arc<Labels>,
}

impl Object for qg_guard {
    fn process(&self) -> Process {
        self.guard.process()
    }
}

/// How a guard is opened. Fill it with `qg_guard_options_init`, or with zeros and its size; then set what you want
/// differently. The configuration has 1 MiB at most.
#[derive_ReprC]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct qg_guard_options {
    /// sizeof(qg_guard_options). It tells which version of this struct the program was built with.
    pub struct_size: u32,
    /// Threads that compute one step, 1024 at most. 0: as the configuration says, else one per core.
    pub threads: u32,
    /// Memory for keys and values of all streams together, in MiB. 0: as the configuration says, else by the machine's
    /// memory. Pages are taken from the system as they are first used.
    pub cache_mib: u64,
    /// The configuration, a TOML document, in UTF-8: policies, limits, everything else. It need not end with a NUL. NULL: the
    /// default. The fields above and below go before it.
    pub config_toml: *const c_char,
    /// Its length in bytes.
    pub config_toml_length: usize,
    /// Path of the ONNX Runtime library or of the folder it is in, in UTF-8. It need not end with a NUL. NULL: the variable
    /// ORT_DYLIB_PATH, then one that is loaded already, then beside this library, then the system's folders.
    pub runtime_library: *const c_char,
    /// Its length in bytes.
    pub runtime_library_length: usize,
}

// SAFETY: numbers and pointers, of which none is followed unless its length says so.
unsafe impl Grows for qg_guard_options {
    const FIRST: usize = offset_of!(qg_guard_options, runtime_library_length) + size_of::<usize>();
}

impl Default for qg_guard_options {
    fn default() -> Self {
        qg_guard_options {
            struct_size: size_of::<qg_guard_options>() as u32,
            threads: 0,
            cache_mib: 0,
            config_toml: std::ptr::null(),
            config_toml_length: 0,
            runtime_library: std::ptr::null(),
            runtime_library_length: 0,
        }
    }
}

/// Fills options with the defaults. `struct_size` is sizeof(qg_guard_options): no more than that is written.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if `struct_size` is less than any version of the struct had, or more than the
/// library's own, as it is if the header is newer than the library; then nothing is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_options_init(
    options: *mut qg_guard_options,
    struct_size: u32,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        if options.is_null() {
            return Err(Failure::Null { argument: "options" });
        }
        check_size::<qg_guard_options>(struct_size)?;
        let known = qg_guard_options { struct_size, ..qg_guard_options::default() };
        // SAFETY: the header wants a pointer to so many bytes; `known` has at least as many.
        unsafe { (&raw const known).cast::<u8>().copy_to_nonoverlapping(options.cast::<u8>(), struct_size as usize) };
        Ok(())
    })
}

/// The configuration that options stand for.
///
/// # Safety
/// As the header wants options.
pub(super) unsafe fn read_config(options: *const qg_guard_options) -> Result<Config, Failure> {
    // SAFETY: as the caller's.
    let options = unsafe { grows::read(options) }?;
    // SAFETY: the header wants texts in the options.
    let toml = unsafe { text(options.config_toml, options.config_toml_length, "options.config_toml") }?;
    let library =
        // SAFETY: as above.
        unsafe { text(options.runtime_library, options.runtime_library_length, "options.runtime_library") }?;
    let mut config = Config::from_toml(toml)?;
    if options.threads > 0 {
        config.runtime.threads = options.threads as usize;
    }
    if options.cache_mib > 0 {
        config.cache.mib = usize::try_from(options.cache_mib)
            .ok()
            .filter(|mib| *mib <= usize::MAX >> 20)
            .ok_or_else(|| Failure::argument("options.cache_mib", "more than there can be"))?;
    }
    if !library.is_empty() {
        config.runtime.library = Some(library.into());
    }
    Ok(config)
}

impl Categories {
    /// # Errors
    /// [`Error::BundleField`] if there are more than the structs carry.
    pub(super) fn new(guard: &Guard) -> Result<Self, Failure> {
        let names = |labels: &Labels, field: &str| {
            let count = labels.categories().len();
            if count > QG_MAX_CATEGORIES {
                let reason = format!("{count} categories, the C interface carries {QG_MAX_CATEGORIES}");
                let bundle = guard.info().bundle.clone();
                return Err(Failure::from(Error::BundleField { bundle, field: field.to_owned(), reason }));
            }
            Ok(labels.categories().iter().map(c_string).collect())
        };
        let names = [names(guard.query_labels(), "heads")?, names(guard.response_labels(), "heads")?];
        let (query, response) = (guard.shared.query_labels.clone(), guard.shared.response_labels.clone());
        Ok(Categories { names: Arc::new(names), query, response })
    }
}

impl qg_guard {
    fn new(guard: Guard) -> Result<Self, Failure> {
        Ok(qg_guard { categories: Categories::new(&guard)?, guard })
    }

    fn names(&self, heads: u32) -> Result<&[CString], Failure> {
        match heads {
            QG_HEADS_PROMPT | QG_HEADS_ANSWER => Ok(&self.categories.names[heads as usize]),
            _ => Err(Failure::Enum { argument: "heads", value: heads.into() }),
        }
    }
}

/// Opens the bundle in a folder, and gives a guard that is yours to free. `options` may be NULL: the defaults.
///
/// It takes as long as reading the weights and making the session do: seconds, for a large model.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT; QG_ERROR_CONFIG; QG_ERROR_RUNTIME_NOT_FOUND or QG_ERROR_RUNTIME_UNUSABLE if
/// there is no ONNX Runtime to run it; QG_ERROR_BUNDLE_FILE, QG_ERROR_BUNDLE_FIELD or QG_ERROR_BUNDLE_FORMAT if the bundle
/// is damaged, newer than this library or of an unknown kind; QG_ERROR_PROVIDER if the execution provider that the
/// configuration chooses cannot be had; QG_ERROR_OUT_OF_MEMORY; QG_ERROR_INFERENCE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_open(
    bundle: *const c_char,
    bundle_length: usize,
    options: *const qg_guard_options,
    guard: *mut *mut qg_guard,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (bundle, config, guard) = unsafe {
            let out = Out::new(guard, "guard")?;
            if bundle.is_null() {
                return Err(Failure::Null { argument: "bundle" });
            }
            (text(bundle, bundle_length, "bundle")?, read_config(options)?, out)
        };
        keep_loaded();
        guard.write(give(qg_guard::new(Guard::open_with(bundle, &config)?)?));
        Ok(())
    })
}

/// Opens a guard that needs no bundle.
///
/// # Safety
/// The header wants what this reads and writes.
unsafe fn open_built_in(
    open: fn(&Config) -> crate::Result<Guard>,
    options: *const qg_guard_options,
    guard: *mut *mut qg_guard,
) -> Result<(), Failure> {
    // SAFETY: the caller's promises.
    let (config, guard) = unsafe { (read_config(options)?, Out::new(guard, "guard")?) };
    keep_loaded();
    guard.write(give(qg_guard::new(open(&config)?)?));
    Ok(())
}

/// Opens the demonstration guard that is built into the library, and gives a guard that is yours to free. It is small and
/// only tells the obvious apart: for trying things and for tests. `options` may be NULL: the defaults.
///
/// Errors: as `qg_guard_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_open_nano(
    options: *const qg_guard_options,
    guard: *mut *mut qg_guard,
    error: *mut *mut qg_error,
) -> qg_status {
    // SAFETY: the header wants what this reads and writes.
    boundary::status(error, || unsafe { open_built_in(Guard::nano, options, guard) })
}

/// Opens the demonstration guard of the variant gen, which is built in too, and gives a guard that is yours to free: it
/// annotates whole conversations and has no streams. It is as small as the other. `options` may be NULL: the defaults.
///
/// Errors: as `qg_guard_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_open_nano_gen(
    options: *const qg_guard_options,
    guard: *mut *mut qg_guard,
    error: *mut *mut qg_error,
) -> qg_status {
    // SAFETY: the header wants what this reads and writes.
    boundary::status(error, || unsafe { open_built_in(Guard::nano_gen, options, guard) })
}

/// Frees a guard. NULL is fine, and so are streams that still use it: they keep what they need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_free(guard: *mut qg_guard) {
    // SAFETY: the header wants a guard or NULL.
    boundary::value((), || unsafe { free_object(guard) })
}

/// Tells what a guard is made of, as a JSON object: bundle, checkpoint, precision, dimensions, labels, ONNX Runtime. The
/// text is yours to free.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_info(
    guard: *const qg_guard,
    json: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, json) = unsafe { (object(guard, "guard")?, Out::new(json, "json")?) };
        json.write(qg_text::allocate(info(&guard.guard)?));
        Ok(())
    })
}

/// What [`qg_guard_info`] gives.
#[derive(Serialize)]
struct GuardInfo<'a> {
    version: &'static str,
    #[serde(flatten)]
    info: &'a Info,
    prompt_labels: &'a Labels,
    answer_labels: &'a Labels,
}

fn info(guard: &Guard) -> Result<String, Failure> {
    let (info, prompt_labels, answer_labels) = (guard.info(), guard.query_labels(), guard.response_labels());
    let info = GuardInfo { version: env!("CARGO_PKG_VERSION"), info, prompt_labels, answer_labels };
    serde_json::to_string(&info).map_err(|error| Failure::Panic(error.to_string()))
}

/// Tells how many categories there are for prompts or for answers. `heads` is one of `QG_HEADS_`.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_category_count(
    guard: *const qg_guard,
    heads: u32,
    count: *mut u32,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, count) = unsafe { (object(guard, "guard")?, Out::new(count, "count")?) };
        count.write(guard.names(heads)?.len() as u32);
        Ok(())
    })
}

/// Gives the name of a category, exactly as the checkpoint spells it: UTF-8 that ends with a NUL. It lives as long as this
/// guard is not freed. `heads` is one of `QG_HEADS_`, `category` an index as verdicts have it.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ENUM; QG_ERROR_ARGUMENT if there is no such category.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_category_name(
    guard: *const qg_guard,
    heads: u32,
    category: u32,
    name: *mut *const c_char,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, name) = unsafe { (object(guard, "guard")?, Out::new(name, "name")?) };
        let names = guard.names(heads)?;
        let found = names.get(category as usize);
        let missing = || Failure::argument("category", format!("{category} is not below {}", names.len()));
        name.write(found.ok_or_else(missing)?.as_ptr());
        Ok(())
    })
}

/// Gives the tokens of a text (UTF-8), as `qg_stream_push_tokens` wants them: their ids, and the bytes of the text that each
/// stands for. Special tokens that the text spells are text.
///
/// `ids` and `spans` are arrays with room for `capacity` each; one that is NULL is not wanted. `*count` becomes the number
/// of tokens; if it is more than `capacity`, only the first were written.
///
/// Errors: QG_ERROR_NULL for `guard`, `count` or a text of some length; QG_ERROR_ARGUMENT if the text is not UTF-8, the
/// tokenizer cannot encode it, or it takes texts only whole and this has more than 1 MiB; QG_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_encode(
    guard: *const qg_guard,
    text: *const c_char,
    text_length: usize,
    ids: *mut u32,
    spans: *mut qg_span,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, text, count) =
            unsafe { (object(guard, "guard")?, self::text(text, text_length, "text")?, Out::new(count, "count")?) };
        // SAFETY: as above.
        let (ids, spans) = unsafe { (OutArray::optional(ids, capacity), OutArray::optional(spans, capacity)) };
        let tokens = guard.guard.encode(text)?;
        ids.write(tokens.iter().map(|token| token.id));
        spans
            .write(tokens.iter().map(|token| qg_span { start: token.bytes.start as u64, end: token.bytes.end as u64 }));
        count.write(tokens.len());
        Ok(())
    })
}

/// Gives the bytes that a token stands for: often not whole characters, and without a NUL at the end. They live as long as
/// this guard is not freed.
///
/// Errors: QG_ERROR_NULL; QG_ERROR_ARGUMENT if there is no such token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_token_bytes(
    guard: *const qg_guard,
    token: u32,
    bytes: *mut *const u8,
    length: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, bytes, length) =
            unsafe { (object(guard, "guard")?, Out::new(bytes, "bytes")?, Out::new(length, "length")?) };
        let found = guard.guard.token_bytes(token)?;
        bytes.write(found.as_ptr());
        length.write(found.len());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::status::{QG_ERROR_ARGUMENT, QG_OK},
        *,
    };

    /// Options, and what lies behind them in memory.
    #[repr(C)]
    struct Wider {
        options: qg_guard_options,
        behind: [u64; 2],
    }

    #[test]
    fn nothing_behind_the_options_is_read_or_written() {
        let size = size_of::<qg_guard_options>() as u32;
        let mut wider = Wider { options: qg_guard_options::default(), behind: [7; 2] };
        let options = (&raw mut wider).cast::<qg_guard_options>();
        let init = |options, size| {
            // SAFETY: a size that is more than there is must be refused before anything is written.
            unsafe { qg_guard_options_init(options, size, std::ptr::null_mut()) }.code()
        };
        for wrong in [0, qg_guard_options::FIRST as u32 - 1, size + 1, size + 16, 4096, 1 << 20, u32::MAX] {
            assert_eq!(init(options, wrong), QG_ERROR_ARGUMENT, "{wrong}");
            // SAFETY: as above, for reading.
            unsafe {
                (*options).struct_size = wrong;
                assert!(grows::read(options).is_err(), "{wrong}");
            }
        }
        assert_eq!(init(options, size), QG_OK);
        assert_eq!((wider.options.struct_size, wider.behind), (size, [7; 2]));
        wider.options.threads = 3;
        // SAFETY: options of this version, or none.
        unsafe {
            assert_eq!(grows::read(&wider.options).unwrap().threads, 3);
            assert_eq!(grows::read::<qg_guard_options>(std::ptr::null()).unwrap().threads, 0);
        }
    }

    #[test]
    fn a_configuration_is_read_from_texts() {
        let toml = "runtime.threads = 2";
        let options = qg_guard_options {
            config_toml: toml.as_ptr().cast(),
            config_toml_length: toml.len(),
            cache_mib: 64,
            ..Default::default()
        };
        // SAFETY: options with a text.
        let config = unsafe { read_config(&options) }.unwrap();
        assert_eq!((config.runtime.threads, config.cache.mib), (2, 64));
    }
}
