//! Configurations, policies and rules: TOML documents, or JSON made of a dictionary.

use pyo3::prelude::*;
use qwenguard::{Config, Error, Policy, RewardRule};

use crate::errors::Failure;

/// A document, and whether it is JSON.
pub(crate) type Document = (bool, String);

fn wrong(field: &str, error: &serde_json::Error) -> Error {
    Error::Config { field: field.into(), reason: error.to_string(), source: None }
}

pub(crate) fn config(document: Option<&Document>) -> Result<Config, Error> {
    match document {
        None => Ok(Config::default()),
        Some((false, toml)) => Config::from_toml(toml),
        // Opening checks the numbers.
        Some((true, json)) => serde_json::from_str(json).map_err(|error| wrong("document", &error)),
    }
}

pub(crate) fn policy((is_json, text): &Document) -> Result<Policy, Error> {
    match is_json {
        false => Policy::from_toml(text),
        true => serde_json::from_str(text).map_err(|error| wrong("policy document", &error)),
    }
}

pub(crate) fn rule(document: Option<&Document>) -> Result<RewardRule, Error> {
    match document {
        None => Ok(RewardRule::default()),
        Some((false, toml)) => RewardRule::from_toml(toml),
        Some((true, json)) => serde_json::from_str(json).map_err(|error| wrong("reward rule", &error)),
    }
}

/// Reads a policy: an error says what is wrong with it.
#[pyfunction]
pub(crate) fn check_policy(document: Document) -> PyResult<()> {
    policy(&document).map_err(Failure::from)?;
    Ok(())
}
