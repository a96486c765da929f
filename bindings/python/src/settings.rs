//! Configurations, policies and rules: TOML documents, or JSON made of a dictionary.

use pyo3::prelude::*;
use qwenguard::{Config, Error, Policy, RewardRule};
use serde::de::DeserializeOwned;

use crate::errors::Failure;

/// A document, and whether it is JSON.
pub(crate) type Document = (bool, String);

/// Reads a dictionary. Errors name the place by the names of its settings, below `root`: who wrote it knows of no lines. What is
/// wrong with all of it is said of the `whole`.
fn read<T: DeserializeOwned>(root: &str, whole: &str, json: &str) -> Result<T, Error> {
    let wrong = |field: String, reason: String| Error::Config { field, reason, source: None };
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| wrong(whole.into(), error.to_string()))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let names = [root, &path].into_iter().filter(|name| !name.is_empty() && *name != ".");
        let field = names.collect::<Vec<_>>().join(".");
        wrong(if path == "." { whole.into() } else { field }, error.into_inner().to_string())
    })
}

pub(crate) fn config(document: Option<&Document>) -> Result<Config, Error> {
    match document {
        None => Ok(Config::default()),
        Some((false, toml)) => Config::from_toml(toml),
        // Opening checks the numbers.
        Some((true, json)) => read("", "document", json),
    }
}

pub(crate) fn policy((is_json, text): &Document) -> Result<Policy, Error> {
    match is_json {
        false => Policy::from_toml(text),
        true => read("policy", "policy document", text),
    }
}

pub(crate) fn rule(document: Option<&Document>) -> Result<RewardRule, Error> {
    match document {
        None => Ok(RewardRule::default()),
        Some((false, toml)) => RewardRule::from_toml(toml),
        Some((true, json)) => read("reward", "reward rule", json),
    }
}

/// Reads a policy: an error says what is wrong with it.
#[pyfunction]
pub(crate) fn check_policy(document: Document) -> PyResult<()> {
    policy(&document).map_err(Failure::from)?;
    Ok(())
}
