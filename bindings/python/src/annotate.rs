//! Annotations that are there already: judged by other policies, and rewarded.

use pyo3::{exceptions::PyValueError, prelude::*, types::PyTuple};
use qwenguard::{AnnotateOptions, Annotation, Error, Policy};

use crate::{
    errors::Failure,
    results,
    settings::{self, Document},
};

/// Options by the names that JSON has for them.
pub(crate) fn options(decoding: &str, overflow: &str) -> PyResult<AnnotateOptions> {
    let options = serde_json::json!({ "decoding": decoding, "overflow": overflow });
    serde_json::from_value(options).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn read(json: &str) -> Result<Annotation, Failure> {
    let wrong =
        |error: serde_json::Error| Error::Argument { argument: "annotation", reason: error.to_string(), source: None };
    Ok(serde_json::from_str(json).map_err(wrong)?)
}

/// An annotation from its JSON. Decision and finding are those of the policy.
#[pyfunction]
#[pyo3(signature = (json, policy=None, categories=None))]
pub(crate) fn judge_annotation<'py>(
    py: Python<'py>,
    json: &str,
    policy: Option<Document>,
    categories: Option<Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut annotation = read(json)?;
    if let Some(policy) = policy {
        let policy = settings::policy(&policy).map_err(Failure::from)?;
        if let Some(categories) = &categories {
            check_categories(&policy, categories.extract()?)?;
        }
        (annotation.decision, annotation.finding) = annotation.judge(&policy);
    }
    results::annotation(py, &annotation, categories.as_ref())
}

/// A rule for a category that the model does not have is a mistake.
fn check_categories(policy: &Policy, (prompt, answer): (Vec<String>, Vec<String>)) -> Result<(), Failure> {
    for (field, rules, names) in
        [("prompt", &policy.prompt.categories, prompt), ("answer", &policy.answer.categories, answer)]
    {
        if let Some(name) = rules.keys().find(|name| !names.contains(name)) {
            return Err(Failure::from(Error::Config {
                field: format!("policy.{field}.categories.{name}"),
                reason: format!("the model has no such category, it has {}", names.join(", ")),
                source: None,
            }));
        }
    }
    Ok(())
}

/// The reward of a response by all its annotations, as JSON.
#[pyfunction]
#[pyo3(signature = (annotations, rule, helpfulness))]
pub(crate) fn reward(annotations: Vec<String>, rule: Option<Document>, helpfulness: f64) -> PyResult<f64> {
    let rule = settings::rule(rule.as_ref()).map_err(Failure::from)?;
    let read: Vec<Annotation> = annotations.iter().map(|json| read(json)).collect::<Result<_, _>>()?;
    let all: Vec<&Annotation> = read.iter().collect();
    Ok(rule.reward(&all, helpfulness).map_err(Failure::from)?)
}
