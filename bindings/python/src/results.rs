//! What the library answers, as values of the classes in `python/qwenguard/_results.py`.

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyList, PyString, PyTuple},
};
use qwenguard::{
    Annotation, AnnotationMode, Channel, Decision, Opinion, OpinionOutcome, OpinionTrigger, PromptCheck, PromptFinding,
    Reply, Risk, TokenVerdict, Update, Verdict, Violation,
    policy::{Action, AnnotationFinding},
};

use crate::errors::Failure;

/// Classes and members of enumerations, looked up once.
struct Classes {
    verdict: Py<PyAny>,
    prompt_check: Py<PyAny>,
    prompt_finding: Py<PyAny>,
    token_verdict: Py<PyAny>,
    violation: Py<PyAny>,
    opinion: Py<PyAny>,
    update: Py<PyAny>,
    annotation: Py<PyAny>,
    annotation_finding: Py<PyAny>,
    risks: [Py<PyAny>; 3],
    decisions: [Py<PyAny>; 2],
    actions: [Py<PyAny>; 3],
    channels: [Py<PyAny>; 2],
    modes: [Py<PyAny>; 2],
    triggers: [Py<PyAny>; 2],
    outcomes: [Py<PyAny>; 5],
}

impl Classes {
    fn get(py: Python<'_>) -> PyResult<&Classes> {
        static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
        CLASSES.get_or_try_init(py, || Classes::load(py))
    }

    fn load(py: Python<'_>) -> PyResult<Self> {
        let module = py.import("qwenguard._results")?;
        let class = |name: &str| module.getattr(name).map(Bound::unbind);
        fn members<const N: usize>(class: &Py<PyAny>, py: Python<'_>, names: [&str; N]) -> PyResult<[Py<PyAny>; N]> {
            let found: Vec<Py<PyAny>> =
                names.iter().map(|name| Ok(class.bind(py).getattr(name)?.unbind())).collect::<PyResult<_>>()?;
            Ok(found.try_into().expect("as many as there are names"))
        }
        Ok(Classes {
            verdict: class("Verdict")?,
            prompt_check: class("PromptCheck")?,
            prompt_finding: class("PromptFinding")?,
            token_verdict: class("TokenVerdict")?,
            violation: class("Violation")?,
            opinion: class("Opinion")?,
            update: class("Update")?,
            annotation: class("Annotation")?,
            annotation_finding: class("AnnotationFinding")?,
            risks: members(&class("Risk")?, py, ["SAFE", "CONTROVERSIAL", "UNSAFE"])?,
            decisions: members(&class("Decision")?, py, ["CONTINUE", "STOP"])?,
            actions: members(&class("Action")?, py, ["IGNORE", "FLAG", "STOP"])?,
            channels: members(&class("Channel")?, py, ["THINKING", "ANSWER"])?,
            modes: members(&class("AnnotationMode")?, py, ["PROMPT", "RESPONSE"])?,
            triggers: members(&class("OpinionTrigger")?, py, ["VIOLATION", "UNCERTAIN"])?,
            outcomes: members(&class("OpinionOutcome")?, py, ["CONFIRMED", "LIFTED", "CLEARED", "REPORTED", "FAILED"])?,
        })
    }

    fn risk(&self, risk: Risk) -> &Py<PyAny> {
        &self.risks[risk as usize]
    }

    fn decision(&self, decision: Decision) -> &Py<PyAny> {
        &self.decisions[usize::from(decision == Decision::Stop)]
    }

    fn action(&self, action: Action) -> &Py<PyAny> {
        &self.actions[action as usize]
    }

    fn channel(&self, channel: Channel) -> &Py<PyAny> {
        &self.channels[usize::from(channel == Channel::Answer)]
    }

    fn mode(&self, mode: AnnotationMode) -> &Py<PyAny> {
        &self.modes[usize::from(mode == AnnotationMode::Response)]
    }

    fn trigger(&self, trigger: OpinionTrigger) -> &Py<PyAny> {
        &self.triggers[usize::from(trigger == OpinionTrigger::Uncertain)]
    }

    fn outcome(&self, outcome: OpinionOutcome) -> &Py<PyAny> {
        &self.outcomes[match outcome {
            OpinionOutcome::Confirmed => 0,
            OpinionOutcome::Lifted => 1,
            OpinionOutcome::Cleared => 2,
            OpinionOutcome::Reported => 3,
            OpinionOutcome::Failed => 4,
        }]
    }
}

type Made<'py> = PyResult<Bound<'py, PyAny>>;

/// What a call answers.
pub(crate) fn reply<'py>(py: Python<'py>, reply: &Reply) -> Made<'py> {
    match reply {
        Reply::Prompt(check) => prompt_check(py, check),
        Reply::Update(found) => update(py, found),
        Reply::Annotation(found) => annotation(py, found, None),
    }
}

fn risks<'py>(
    py: Python<'py>,
    classes: &Classes,
    all: impl Iterator<Item = (Risk, f32)>,
) -> PyResult<Bound<'py, PyDict>> {
    let by_risk = PyDict::new(py);
    for (risk, probability) in all {
        by_risk.set_item(classes.risk(risk), probability)?;
    }
    Ok(by_risk)
}

fn verdict<'py>(py: Python<'py>, classes: &Classes, found: &Verdict) -> Made<'py> {
    let risks = risks(py, classes, found.risk_probabilities())?;
    let categories = PyDict::new(py);
    for (name, probability) in found.category_probabilities() {
        categories.set_item(PyString::intern(py, name), probability)?;
    }
    let category = found.category().map(|name| PyString::intern(py, name));
    classes.verdict.bind(py).call1((classes.risk(found.risk()), category, risks, categories))
}

pub(crate) fn prompt_check<'py>(py: Python<'py>, check: &PromptCheck) -> Made<'py> {
    let classes = Classes::get(py)?;
    let finding = check.finding.as_ref().map(|found| {
        let PromptFinding { action, risk, category, probability, rule, .. } = found;
        let values = (classes.action(*action), classes.risk(*risk), category, probability, rule);
        classes.prompt_finding.bind(py).call1(values)
    });
    let verdict = verdict(py, classes, &check.verdict)?;
    classes.prompt_check.bind(py).call1((verdict, classes.decision(check.decision), finding.transpose()?))
}

fn token<'py>(py: Python<'py>, classes: &Classes, token: &TokenVerdict) -> Made<'py> {
    classes.token_verdict.bind(py).call1((
        token.index,
        token.token_id,
        token.bytes.start,
        token.bytes.end,
        classes.channel(token.channel),
        token.is_final,
        verdict(py, classes, &token.verdict)?,
    ))
}

fn violation<'py>(py: Python<'py>, classes: &Classes, found: &Violation) -> Made<'py> {
    classes.violation.bind(py).call1((
        classes.action(found.action),
        classes.channel(found.channel),
        found.bytes.start,
        found.bytes.end,
        found.first_token,
        found.confirming_token,
        classes.risk(found.risk),
        &found.category,
        found.probability,
        &found.rule,
    ))
}

fn opinion<'py>(py: Python<'py>, classes: &Classes, found: &Opinion) -> Made<'py> {
    let (annotated, failed) = match &found.annotation {
        Ok(annotated) => (Some(annotation(py, annotated, None)?), None),
        Err(error) => (None, Some(Failure::from(error.clone()).exception(py)?)),
    };
    classes.opinion.bind(py).call1((
        classes.trigger(found.trigger),
        classes.outcome(found.outcome),
        classes.channel(found.channel),
        found.bytes.start,
        found.bytes.end,
        found.first_token,
        found.confirming_token,
        annotated,
        failed,
    ))
}

/// A tuple of what is made of each.
fn tuple<'py, T>(py: Python<'py>, all: &[T], make: impl Fn(&T) -> Made<'py>) -> PyResult<Bound<'py, PyTuple>> {
    let made = PyList::empty(py);
    for one in all {
        made.append(make(one)?)?;
    }
    Ok(made.to_tuple())
}

pub(crate) fn update<'py>(py: Python<'py>, found: &Update) -> Made<'py> {
    let classes = Classes::get(py)?;
    let stop = found.violation.as_ref().map(|found| violation(py, classes, found)).transpose()?;
    classes.update.bind(py).call1((
        classes.decision(found.decision),
        found.horizon,
        found.horizon_tokens,
        found.received,
        found.excess(),
        stop,
        tuple(py, &found.flags, |flag| violation(py, classes, flag))?,
        tuple(py, &found.opinions, |one| opinion(py, classes, one))?,
        tuple(py, &found.tokens, |one| token(py, classes, one))?,
        found.void_from,
        found.final_tokens,
    ))
}

fn annotation_finding<'py>(py: Python<'py>, classes: &Classes, found: &AnnotationFinding) -> Made<'py> {
    let AnnotationFinding { action, risk, category, probability, rule, .. } = found;
    let values = (classes.action(*action), classes.risk(*risk), category, probability, rule);
    classes.annotation_finding.bind(py).call1(values)
}

/// An annotation. `categories` are those that its guard knows, of prompts and of answers.
pub(crate) fn annotation<'py>(
    py: Python<'py>,
    found: &Annotation,
    categories: Option<&Bound<'py, PyTuple>>,
) -> Made<'py> {
    let classes = Classes::get(py)?;
    let values = PyDict::new(py);
    values.set_item("_categories", categories)?;
    values.set_item("mode", classes.mode(found.mode))?;
    values.set_item("risk", classes.risk(found.risk))?;
    values.set_item("risk_probabilities", risks(py, classes, found.risk_probabilities.iter().copied())?)?;
    values.set_item("categories", PyTuple::new(py, &found.categories)?)?;
    if let Some(all) = &found.category_probabilities {
        let by_name = PyDict::new(py);
        for (name, probability) in all {
            match name {
                Some(name) => by_name.set_item(PyString::intern(py, name), probability)?,
                None => values.set_item("none_probability", probability)?,
            }
        }
        values.set_item("category_probabilities", by_name)?;
    }
    values.set_item("refusal", found.refusal)?;
    values.set_item("refusal_probability", found.refusal_probability)?;
    values.set_item("parsed", found.parsed)?;
    values.set_item("answer", &found.answer)?;
    values.set_item("judged", (found.judged.start, found.judged.end))?;
    values.set_item("is_cut", found.is_cut)?;
    values.set_item("windows", found.windows)?;
    values.set_item("id_count", found.prompt_ids.len())?;
    values.set_item("decision", classes.decision(found.decision))?;
    let finding = found.finding.as_ref().map(|finding| annotation_finding(py, classes, finding));
    values.set_item("finding", finding.transpose()?)?;
    let json = serde_json::to_string(found);
    values.set_item("_json", json.map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?)?;
    classes.annotation.bind(py).call((), Some(&values))
}
