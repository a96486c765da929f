//! Execution providers: the option that chooses one, and `qwenguard providers`, which lists those of this machine.

use std::io::Write;

use qwenguard::{Config, Provider, ProviderDevice, ProviderStatus};

use crate::{Failure, look::Look};

/// The option of commands that open a bundle.
#[derive(clap::Args)]
pub(crate) struct Choice {
    /// What computes the model, in place of the configuration's `runtime.provider`; see `qwenguard providers`.
    #[arg(long, value_name = "NAME", value_parser = named)]
    provider: Option<Provider>,
}

impl Choice {
    pub(crate) fn apply(&self, config: &mut Config) {
        if let Some(provider) = self.provider {
            config.runtime.provider = provider;
        }
    }
}

fn named(name: &str) -> Result<Provider, String> {
    Provider::from_name(name).ok_or_else(|| format!("it is one of {}", Provider::ALL.map(Provider::name).join(", ")))
}

/// Lists all providers.
pub(crate) fn list(config: &Config, json: bool) -> Result<(), Failure> {
    let all = qwenguard::providers(config)?;
    let look = Look::of_output();
    let mut out = std::io::stdout().lock();
    if json {
        let value = serde_json::to_value(&all).map_err(|error| Failure::Message(error.to_string()))?;
        writeln!(out, "{}", look.json(&value))?;
    } else {
        for status in &all {
            writeln!(out, "{:<10}{}", status.provider.name(), look.line(&words(status)))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn words(status: &ProviderStatus) -> String {
    let device = |device: &ProviderDevice| format!("{} {} ({})", device.index, device.name, device.kind);
    let devices: Vec<String> = status.devices.iter().map(device).collect();
    match &status.reason {
        Some(reason) => format!("no: {reason}"),
        None if devices.is_empty() => "yes".to_owned(),
        None => format!("yes: {}", devices.join(", ")),
    }
}
