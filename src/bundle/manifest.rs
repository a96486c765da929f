//! `guard.toml`: what a bundle says about itself.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use crate::{
    Error, Result,
    error::{one_line, toml_reason},
    limits,
    verdict::{Labels, Risk},
};

/// The format this library reads.
pub(crate) const FORMAT: i64 = 1;

/// The contents of `guard.toml`.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) variant: String,
    pub(crate) precision: Precision,
    pub(crate) block: Option<usize>,
    pub(crate) exporter: String,
    pub(crate) source: Source,
    pub(crate) model: Dimensions,
    labels: LabelMaps,
    pub(crate) tokens: SpecialTokens,
    pub(crate) graphs: Graphs,
    pub(crate) files: BTreeMap<String, FileDigest>,
    #[serde(default)]
    pub(crate) self_test: Vec<SelfTest>,
}

/// How the weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    Fp32,
    Int8,
    Int4,
}

impl Precision {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Int8 => "int8",
            Precision::Int4 => "int4",
        }
    }
}

/// The checkpoint that the bundle was made from.
#[derive(Debug, Deserialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) sha256: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dimensions {
    pub(crate) architecture: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    pub(crate) num_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) context: usize,
}

#[derive(Debug, Deserialize)]
struct LabelMaps {
    response_risk: Vec<String>,
    response_category: Vec<String>,
    query_risk: Vec<String>,
    query_category: Vec<String>,
}

/// Ids that the template's control tokens have in this tokenizer.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SpecialTokens {
    /// `<|im_start|>`
    pub(crate) turn_start: u32,
    /// `<|im_end|>`
    pub(crate) turn_end: u32,
    /// The word `user` after a turn's start.
    pub(crate) user: Vec<u32>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Graphs {
    pub(crate) paged_cpu: Graph,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Graph {
    pub(crate) file: String,
}

/// A text with its tokens, and the logits at the last one that the exporter found.
#[derive(Debug, Deserialize)]
pub(crate) struct SelfTest {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) response_risk: Vec<f32>,
    pub(crate) response_category: Vec<f32>,
    pub(crate) query_risk: Vec<f32>,
    pub(crate) query_category: Vec<f32>,
}

/// The most texts of a self-test, and the most tokens of one: opening a bundle is not to take long.
const MAX_SELF_TESTS: usize = 16;
const MAX_SELF_TEST_TOKENS: usize = 64;

#[derive(Debug, Deserialize)]
pub(crate) struct FileDigest {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Manifest {
    /// Parses and checks the text of `guard.toml`; `bundle` names the bundle in errors.
    pub(crate) fn parse(text: &str, bundle: &str) -> Result<Self> {
        let damaged = |error: toml::de::Error| Error::BundleFile {
            bundle: bundle.to_owned(),
            file: "guard.toml".to_owned(),
            reason: toml_reason(text, &error),
        };
        let table: toml::Table = text.parse().map_err(damaged)?;
        // The format comes first: a newer one may look different everywhere else.
        match table.get("format").map(toml::Value::as_integer) {
            Some(Some(FORMAT)) => {}
            Some(Some(found)) => {
                return Err(Error::BundleFormat { bundle: bundle.to_owned(), found, supported: FORMAT });
            }
            _ => return Err(field_error(bundle, "format", "missing or not a number")),
        }
        let manifest: Manifest = toml::from_str(text).map_err(damaged)?;
        manifest.validate().map_err(|(field, reason)| field_error(bundle, field, &reason))?;
        manifest.response_labels(bundle)?;
        manifest.query_labels(bundle)?;
        manifest.check_self_test().map_err(|(field, reason)| field_error(bundle, &field, &reason))?;
        Ok(manifest)
    }

    fn check_self_test(&self) -> Result<(), (String, String)> {
        let count = self.self_test.len();
        if count == 0 {
            return Err(("self_test".to_owned(), "missing: export the checkpoint again, with this version".to_owned()));
        }
        if count > MAX_SELF_TESTS {
            return Err(("self_test".to_owned(), format!("{count} texts are more than {MAX_SELF_TESTS}")));
        }
        for (index, test) in self.self_test.iter().enumerate() {
            let fail = |field: &str, reason: String| Err((format!("self_test[{index}].{field}"), reason));
            let most = MAX_SELF_TEST_TOKENS.min(self.model.context);
            if !(1..=most).contains(&test.ids.len()) {
                return fail("ids", format!("{} tokens, not 1 to {most}", test.ids.len()));
            }
            if let Some(id) = test.ids.iter().find(|id| **id as usize >= self.model.vocab_size) {
                return fail("ids", format!("{id} is not below model.vocab_size {}", self.model.vocab_size));
            }
            for (head, logits, labels) in [
                ("response_risk", &test.response_risk, &self.labels.response_risk),
                ("response_category", &test.response_category, &self.labels.response_category),
                ("query_risk", &test.query_risk, &self.labels.query_risk),
                ("query_category", &test.query_category, &self.labels.query_category),
            ] {
                if logits.len() != labels.len() {
                    return fail(head, format!("{} logits, labels.{head} has {} labels", logits.len(), labels.len()));
                }
                if !logits.iter().all(|logit| logit.is_finite()) {
                    return fail(head, "not all logits are finite".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Labels of the heads that read answers.
    pub(crate) fn response_labels(&self, bundle: &str) -> Result<Arc<Labels>> {
        let risks = parse_risks(bundle, "labels.response_risk", &self.labels.response_risk)?;
        Ok(Arc::new(Labels { risks, categories: self.labels.response_category.clone() }))
    }

    /// Labels of the heads that read prompts.
    pub(crate) fn query_labels(&self, bundle: &str) -> Result<Arc<Labels>> {
        let risks = parse_risks(bundle, "labels.query_risk", &self.labels.query_risk)?;
        Ok(Arc::new(Labels { risks, categories: self.labels.query_category.clone() }))
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.variant != "stream" {
            return Err(("variant", format!("{:?} is not supported, only \"stream\" is", self.variant)));
        }
        let texts = self.source.sha256.iter().flat_map(|(file, digest)| [file, digest]);
        for text in texts.chain([&self.exporter, &self.source.name]) {
            if text.len() > limits::TEXT_BYTES || text.contains(char::is_control) {
                let reason = format!("{text:?} is not one line of at most {} bytes", limits::TEXT_BYTES);
                return Err(("source", reason));
            }
        }
        let model = &self.model;
        if model.architecture != "Qwen3ForGuardModel" {
            return Err(("model.architecture", format!("{:?} is unknown", model.architecture)));
        }
        let sizes = [
            ("model.vocab_size", model.vocab_size, limits::VOCABULARY),
            ("model.hidden_size", model.hidden_size, limits::HIDDEN_SIZE),
            ("model.num_layers", model.num_layers, limits::LAYERS),
            ("model.num_heads", model.num_heads, limits::HEADS),
            ("model.num_kv_heads", model.num_kv_heads, limits::HEADS),
            ("model.head_dim", model.head_dim, limits::HEAD_DIM),
            ("model.context", model.context, limits::CONTEXT),
        ];
        for (field, size, limit) in sizes {
            if !(1..=limit).contains(&size) {
                return Err((field, format!("{size} is not 1 to {limit}")));
            }
        }
        if !model.num_heads.is_multiple_of(model.num_kv_heads) {
            return Err(("model.num_heads", format!("not a multiple of num_kv_heads {}", model.num_kv_heads)));
        }
        if !model.head_dim.is_multiple_of(8) {
            return Err(("model.head_dim", format!("{} is not a multiple of 8", model.head_dim)));
        }
        check_categories("labels.response_category", &self.labels.response_category)?;
        check_categories("labels.query_category", &self.labels.query_category)?;
        if !(1..=limits::USER_TOKENS).contains(&self.tokens.user.len()) {
            return Err(("tokens.user", format!("not 1 to {} tokens", limits::USER_TOKENS)));
        }
        let ids = self.tokens.user.iter().chain([&self.tokens.turn_start, &self.tokens.turn_end]);
        if let Some(id) = ids.into_iter().find(|id| **id as usize >= model.vocab_size) {
            return Err(("tokens", format!("{id} is not below model.vocab_size {}", model.vocab_size)));
        }
        self.check_files()
    }

    fn check_files(&self) -> Result<(), (&'static str, String)> {
        if self.files.len() > limits::FILES {
            return Err(("files", format!("{} files, the limit is {}", self.files.len(), limits::FILES)));
        }
        let mut total = 0u64;
        for (name, file) in &self.files {
            // A bundle never reaches outside its own folder.
            let plain = !name.is_empty() && !name.contains(['/', '\\', ':']) && name != "." && name != "..";
            if !plain || name.len() > limits::FILE_NAME_BYTES || name.contains(char::is_control) {
                return Err(("files", format!("{name:?} is not a plain file name")));
            }
            total = total.saturating_add(file.bytes);
        }
        if total > limits::BUNDLE_BYTES {
            return Err(("files", format!("{total} bytes or more, the limit is {}", limits::BUNDLE_BYTES)));
        }
        let graph = self.graphs.paged_cpu.file.as_str();
        let others = ["guard.toml", "tokenizer.json", "chat_template.jinja", "weights.bin"];
        if others.contains(&graph) {
            return Err(("graphs.paged_cpu.file", format!("{graph:?} is not a graph")));
        }
        for name in [graph, "tokenizer.json", "chat_template.jinja", "weights.bin"] {
            if !self.files.contains_key(name) {
                return Err(("files", format!("{name} is not listed")));
            }
        }
        Ok(())
    }
}

fn check_categories(field: &'static str, labels: &[String]) -> Result<(), (&'static str, String)> {
    if !(1..=limits::CATEGORIES).contains(&labels.len()) {
        return Err((field, format!("{} labels, 1 to {} can be", labels.len(), limits::CATEGORIES)));
    }
    for (index, label) in labels.iter().enumerate() {
        if label.trim().is_empty() || label.len() > limits::LABEL_BYTES || label.contains(char::is_control) {
            let reason = format!("{label:?} is not a name of 1 to {} bytes on one line", limits::LABEL_BYTES);
            return Err((field, reason));
        }
        if labels[..index].contains(label) {
            return Err((field, format!("{label:?} appears twice")));
        }
    }
    Ok(())
}

fn parse_risks(bundle: &str, field: &str, labels: &[String]) -> Result<Vec<Risk>> {
    let mut risks = Vec::with_capacity(labels.len());
    for label in labels {
        let risk = Risk::from_label(label)
            .ok_or_else(|| field_error(bundle, field, &format!("{label:?} is not a known level")))?;
        if risks.contains(&risk) {
            return Err(field_error(bundle, field, &format!("{label:?} appears twice")));
        }
        risks.push(risk);
    }
    if !risks.contains(&Risk::Safe) || risks.len() < 2 {
        return Err(field_error(bundle, field, "needs Safe and at least one level above it"));
    }
    Ok(risks)
}

fn field_error(bundle: &str, field: &str, reason: &str) -> Error {
    Error::BundleField { bundle: bundle.to_owned(), field: field.to_owned(), reason: one_line(reason) }
}
