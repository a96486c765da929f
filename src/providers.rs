//! What execution providers this machine has.

use serde::Serialize;

use crate::{
    Error, Result,
    config::{Config, Provider},
    process::Opening,
    runtime::Runtime,
};

/// Whether a guard can be opened on an execution provider here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProviderStatus {
    /// Which one.
    pub provider: Provider,
    /// Whether ONNX Runtime makes a session on it.
    pub available: bool,
    /// What it can compute on, as far as ONNX Runtime tells; empty if it is not available.
    pub devices: Vec<ProviderDevice>,
    /// Why it is not available, in one line.
    pub reason: Option<String>,
}

/// Something that a provider computes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProviderDevice {
    /// What the provider's setting `device` is for it.
    pub index: usize,
    /// Its maker and what the system calls it, as far as that is known.
    pub name: String,
    /// `cpu`, `gpu` or `npu`.
    pub kind: String,
}

/// Looks for every execution provider, with the settings that the configuration has for it; which one it chooses makes no
/// difference. On each that may be there a session of one addition is made, which for a GPU takes up to a few seconds.
///
/// ```no_run
/// for status in qwenguard::providers(&qwenguard::Config::default())? {
///     println!("{}: {}", status.provider, status.reason.as_deref().unwrap_or("available"));
/// }
/// # Ok::<(), qwenguard::Error>(())
/// ```
///
/// # Errors
/// [`Error::RuntimeNotFound`] or [`Error::RuntimeUnusable`] if there is no ONNX Runtime; [`Error::Config`] for a setting that
/// is out of range.
pub fn providers(config: &Config) -> Result<Vec<ProviderStatus>> {
    config.validate()?;
    let opening = Opening::begin()?;
    let runtime = Runtime::load(&config.runtime)?;
    let status = |provider| {
        let mut runtime_config = config.runtime.clone();
        runtime_config.provider = provider;
        let found = runtime.probe(&runtime_config);
        let reason = found.as_ref().err().map(|error| match error {
            Error::Provider { reason, .. } => reason.clone(),
            other => other.to_string(),
        });
        let devices = found.unwrap_or_default().into_iter().enumerate();
        let devices =
            devices.map(|(index, device)| ProviderDevice { index, name: device.name, kind: device.kind.to_owned() });
        ProviderStatus { provider, available: reason.is_none(), devices: devices.collect(), reason }
    };
    let all = Provider::ALL.into_iter().map(status).collect();
    opening.check()?;
    Ok(all)
}
