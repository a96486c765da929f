//! Guards.

use std::{
    path::PathBuf,
    process,
    sync::{Mutex, PoisonError},
};

use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyList, PyTuple},
};
use qwenguard::{Error, Message};

use crate::{
    annotate, calls,
    errors::Failure,
    results,
    settings::{self, Document},
    slot::Slot,
    stream::Stream,
};

/// An opened bundle.
#[pyclass(frozen, module = "qwenguard._native")]
pub(crate) struct Guard {
    process: u32,
    guard: Mutex<Option<qwenguard::Guard>>,
    categories: PyOnceLock<Py<PyTuple>>,
}

impl Guard {
    fn new(guard: qwenguard::Guard) -> Self {
        Guard { process: process::id(), guard: Mutex::new(Some(guard)), categories: PyOnceLock::new() }
    }

    pub(crate) fn guard(&self) -> Result<qwenguard::Guard, Failure> {
        if self.process != process::id() {
            return Err(Error::EngineStopped.into());
        }
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.clone().ok_or(Failure::Closed("guard"))
    }

    /// The categories of prompts and of answers.
    pub(crate) fn names<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let names = self.categories.get_or_try_init(py, || {
            let guard = self.guard()?;
            let both = [guard.query_labels(), guard.response_labels()];
            let both: Vec<_> =
                both.iter().map(|labels| PyTuple::new(py, labels.categories())).collect::<PyResult<_>>()?;
            PyResult::Ok(PyTuple::new(py, both)?.unbind())
        })?;
        Ok(names.bind(py))
    }
}

#[pymethods]
impl Guard {
    /// Opens a bundle, or what `kind` names: `nano` or `nano-gen`. `library` is the ONNX Runtime to take if the configuration
    /// names none.
    #[staticmethod]
    #[pyo3(signature = (kind, bundle, config, policy, library))]
    fn open(
        py: Python<'_>,
        kind: &str,
        bundle: Option<PathBuf>,
        config: Option<Document>,
        policy: Option<Document>,
        library: Option<PathBuf>,
    ) -> PyResult<Self> {
        let opened = py.detach(|| {
            let mut config = settings::config(config.as_ref())?;
            if let Some(policy) = &policy {
                config.policy = settings::policy(policy)?;
            }
            if config.runtime.library.is_none() {
                config.runtime.library = library;
            }
            match (kind, bundle) {
                ("nano", None) => qwenguard::Guard::nano(&config).map(Some),
                ("nano-gen", None) => qwenguard::Guard::nano_gen(&config).map(Some),
                ("bundle", Some(bundle)) => qwenguard::Guard::open_with(bundle, &config).map(Some),
                _ => Ok(None),
            }
        });
        let opened = opened.map_err(Failure::from)?;
        opened.map(Guard::new).ok_or_else(|| PyValueError::new_err(format!("{kind:?} is no kind of guard")))
    }

    /// Fails if the guard is closed.
    fn check(&self) -> PyResult<()> {
        self.guard()?;
        Ok(())
    }

    /// The same guard, to be closed on its own.
    fn share(&self) -> PyResult<Self> {
        Ok(Guard::new(self.guard()?))
    }

    fn with_second_opinion(&self, second: &Self) -> PyResult<Self> {
        let guard = self.guard()?.with_second_opinion(&second.guard()?).map_err(Failure::from)?;
        Ok(Guard::new(guard))
    }

    fn second_opinion(&self) -> PyResult<Option<Self>> {
        Ok(self.guard()?.second_opinion().map(Guard::new))
    }

    #[pyo3(signature = (policy=None))]
    fn stream(&self, py: Python<'_>, policy: Option<Document>) -> PyResult<Stream> {
        let guard = self.guard()?;
        let opened = py.detach(|| match &policy {
            Some(policy) => guard.stream_with(settings::policy(policy)?),
            None => guard.stream(),
        });
        Ok(Stream { slot: Slot::new(opened.map_err(Failure::from)?) })
    }

    /// Annotates conversations together. A list of annotations, or of their exceptions.
    fn annotate_all<'py>(
        &self,
        py: Python<'py>,
        conversations: Vec<Bound<'py, PyAny>>,
        decoding: &str,
        overflow: &str,
    ) -> PyResult<Bound<'py, PyList>> {
        let options = annotate::options(decoding, overflow)?;
        let mut read: Vec<Vec<Message>> = Vec::with_capacity(conversations.len());
        for conversation in &conversations {
            read.push(calls::messages(conversation)?);
        }
        let guard = self.guard()?;
        let annotated = py.detach(|| guard.annotate_all(read.iter().map(Vec::as_slice), &options));
        let (all, names) = (PyList::empty(py), self.names(py)?);
        for annotation in annotated {
            all.append(match annotation {
                Ok(annotation) => results::annotation(py, &annotation, Some(names))?,
                Err(error) => Failure::from(error).exception(py)?,
            })?;
        }
        Ok(all)
    }

    /// Tokens of a text: pairs of an id and its bytes.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<(u32, usize, usize)>> {
        let guard = self.guard()?;
        let tokens = py.detach(|| guard.encode(text)).map_err(Failure::from)?;
        Ok(tokens.into_iter().map(|token| (token.id, token.bytes.start, token.bytes.end)).collect())
    }

    fn token_bytes<'py>(&self, py: Python<'py>, id: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.guard()?.token_bytes(calls::token(id)?).map_err(Failure::from)?))
    }

    fn categories(&self, prompts: bool) -> PyResult<Vec<String>> {
        let guard = self.guard()?;
        let labels = if prompts { guard.query_labels() } else { guard.response_labels() };
        Ok(labels.categories().to_vec())
    }

    /// Statistics as JSON.
    fn stats(&self) -> PyResult<String> {
        json(&self.guard()?.stats())
    }

    /// In the text format of Prometheus.
    fn metrics(&self) -> PyResult<String> {
        Ok(self.guard()?.stats().to_prometheus())
    }

    /// What the guard is made of, as JSON.
    fn info(&self) -> PyResult<String> {
        json(self.guard()?.info())
    }

    fn close(&self, py: Python<'_>) {
        if self.process != process::id() {
            return;
        }
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The engine's threads end with it.
        py.detach(|| drop(guard));
    }
}

/// Every execution provider and whether it can be had, as JSON.
#[pyfunction]
#[pyo3(signature = (config, library))]
pub(crate) fn providers(py: Python<'_>, config: Option<Document>, library: Option<PathBuf>) -> PyResult<String> {
    let found = py.detach(|| {
        let mut config = settings::config(config.as_ref())?;
        if config.runtime.library.is_none() {
            config.runtime.library = library;
        }
        qwenguard::providers(&config)
    });
    json(&found.map_err(Failure::from)?)
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))
}
