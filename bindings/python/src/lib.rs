//! The native module of the Python package: what `python/qwenguard` is written over. It takes plain values, waits without the
//! interpreter's lock, and gives values of the classes in `python/qwenguard/_results.py`.

mod annotate;
mod calls;
mod errors;
mod guard;
mod log;
mod queue;
mod replay;
mod results;
mod settings;
mod slot;
mod stream;

use pyo3::prelude::*;

/// The module's contents: `python/qwenguard/_native.pyi` has their types.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<guard::Guard>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<queue::Queue>()?;
    module.add_function(wrap_pyfunction!(stream::call_all, module)?)?;
    module.add_function(wrap_pyfunction!(annotate::judge_annotation, module)?)?;
    module.add_function(wrap_pyfunction!(annotate::reward, module)?)?;
    module.add_function(wrap_pyfunction!(guard::providers, module)?)?;
    module.add_class::<replay::KeptAnswer>()?;
    module.add_function(wrap_pyfunction!(replay::replay_prompt, module)?)?;
    module.add_function(wrap_pyfunction!(settings::check_policy, module)?)?;
    module.add_function(wrap_pyfunction!(log::log_open, module)?)?;
    module.add_function(wrap_pyfunction!(log::log_wait, module)?)?;
    module.add_function(wrap_pyfunction!(log::log_close, module)?)?;
    Ok(())
}
