//! Verdicts that were kept, under other policies, without the model.

use pyo3::prelude::*;
use qwenguard::{Error, Policy, TokenVerdict, Verdict};

use crate::{
    errors::Failure,
    results,
    settings::{self, Document},
};

/// The verdicts of an answer.
#[pyclass(frozen, module = "qwenguard._native")]
#[derive(Debug)]
pub(crate) struct KeptAnswer {
    tokens: Vec<TokenVerdict>,
}

fn wrong(argument: &'static str, error: &serde_json::Error) -> Failure {
    Error::Argument { argument, reason: error.to_string(), source: None }.into()
}

fn policy(document: Option<&Document>) -> Result<Policy, Failure> {
    document.map_or_else(|| Ok(Policy::default()), |document| Ok(settings::policy(document)?))
}

#[pymethods]
impl KeptAnswer {
    /// Reads token verdicts: a list in JSON.
    #[new]
    fn new(json: &str) -> PyResult<Self> {
        let tokens = serde_json::from_str(json).map_err(|error| wrong("tokens", &error))?;
        Ok(KeptAnswer { tokens })
    }

    /// What a policy makes of them.
    #[pyo3(signature = (policy))]
    fn replay<'py>(&self, py: Python<'py>, policy: Option<Document>) -> PyResult<Bound<'py, PyAny>> {
        let policy = self::policy(policy.as_ref())?;
        let mut update = py.detach(|| policy.replay(&self.tokens)).map_err(Failure::from)?;
        // The caller has them.
        update.tokens.clear();
        results::update(py, &update)
    }
}

/// What a policy makes of a prompt's verdict, in JSON.
#[pyfunction]
#[pyo3(signature = (json, policy))]
pub(crate) fn replay_prompt<'py>(py: Python<'py>, json: &str, policy: Option<Document>) -> PyResult<Bound<'py, PyAny>> {
    let verdict: Verdict = serde_json::from_str(json).map_err(|error| wrong("verdict", &error))?;
    let check = self::policy(policy.as_ref())?.replay_prompt(&verdict).map_err(Failure::from)?;
    results::prompt_check(py, &check)
}
