//! `guard.toml`: what a bundle says about itself.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::{
    answer::{self, Answer},
    dimensions::Dimensions,
    graph::Graph,
    head::{self, Classes, FieldError, Head},
    portable,
};
use crate::{
    Error, Result,
    error::{one_line, toml_reason},
    limits,
    verdict::{Labels, Risk},
};

/// The format this library reads.
pub(crate) const FORMAT: i64 = 2;

/// The contents of `guard.toml`.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) variant: String,
    pub(crate) precision: Precision,
    /// How many weights share a scale, where they are quantised.
    pub(crate) group: Option<usize>,
    /// Whether each such group has a zero point, of int4 only.
    #[serde(default)]
    pub(crate) zero_points: bool,
    pub(crate) exporter: String,
    pub(crate) source: Source,
    pub(crate) model: Dimensions,
    #[serde(default)]
    pub(crate) heads: Vec<Head>,
    /// What the model may answer, of the variant "gen".
    pub(crate) answer: Option<Answer>,
    pub(crate) tokens: SpecialTokens,
    /// By the backend that they are made for.
    pub(crate) graphs: BTreeMap<String, Graph>,
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

/// A text with its tokens, and the logits at the last one that the exporter found.
#[derive(Debug, Deserialize)]
pub(crate) struct SelfTest {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    /// Of each head that is no vocabulary, by name.
    pub(crate) logits: BTreeMap<String, Vec<f32>>,
    /// The same of graphs that have weights of their own, by their names.
    #[serde(default)]
    pub(crate) graphs: BTreeMap<String, BTreeMap<String, Vec<f32>>>,
}

/// The heads of the variant "stream" that the library judges by: level and category of an answer's tokens, and of a
/// prompt's end.
pub(crate) const RESPONSE_HEADS: [&str; 2] = ["response_risk", "response_category"];
pub(crate) const QUERY_HEADS: [&str; 2] = ["query_risk", "query_category"];

/// Judges token by token.
const STREAM: &str = "stream";
/// Judges whole conversations, by an answer that it writes.
const GEN: &str = "gen";

/// Files of every bundle, beside `guard.toml`, graphs and their weights.
const OTHER_FILES: [&str; 2] = ["tokenizer.json", "chat_template.jinja"];

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
        let damaged = |error| Error::bundle_file(bundle, "guard.toml", toml_reason(text, error));
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
        let fail = |(field, reason): FieldError| field_error(bundle, &field, &reason);
        manifest.validate().map_err(|(field, reason)| field_error(bundle, field, &reason))?;
        head::check(&manifest.heads, &manifest.model).map_err(fail)?;
        let bytes = |file: &str| manifest.files.get(file).map_or(0, |file| file.bytes);
        portable::check(&manifest.graphs, (&manifest.model, &manifest.heads), bytes).map_err(fail)?;
        match &manifest.answer {
            Some(answer) => answer::check(answer, &manifest.heads, &manifest.model).map_err(fail)?,
            None => drop((manifest.response_labels(bundle)?, manifest.query_labels(bundle)?)),
        }
        manifest.check_self_test().map_err(fail)?;
        Ok(manifest)
    }

    fn check_self_test(&self) -> Result<(), FieldError> {
        let count = self.self_test.len();
        if count == 0 {
            return Err(("self_test".to_owned(), "missing: export the checkpoint again, with this version".to_owned()));
        }
        if count > MAX_SELF_TESTS {
            return Err(("self_test".to_owned(), format!("{count} texts are more than {MAX_SELF_TESTS}")));
        }
        for (index, test) in self.self_test.iter().enumerate() {
            let named = |(field, reason): FieldError| (format!("self_test[{index}].{field}"), reason);
            self.check_ids(&test.ids).map_err(|reason| named(("ids".to_owned(), reason)))?;
            self.check_logits("logits", &test.logits).map_err(named)?;
            for (graph, logits) in &test.graphs {
                self.check_logits(&format!("graphs.{graph}"), logits).map_err(named)?;
            }
        }
        Ok(())
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), String> {
        let most = MAX_SELF_TEST_TOKENS.min(self.model.context);
        if !(1..=most).contains(&ids.len()) {
            return Err(format!("{} tokens, not 1 to {most}", ids.len()));
        }
        match ids.iter().find(|id| **id as usize >= self.model.vocab_size) {
            Some(id) => Err(format!("{id} is not below model.vocab_size {}", self.model.vocab_size)),
            None => Ok(()),
        }
    }

    fn check_logits(&self, of: &str, logits: &BTreeMap<String, Vec<f32>>) -> Result<(), FieldError> {
        let listed = || self.heads.iter().filter(|head| head.classes() != Classes::Vocabulary);
        if let Some(name) = logits.keys().find(|name| !listed().any(|head| head.name == **name)) {
            return Err((format!("{of}.{name}"), "there is no such head, or it is a vocabulary".to_owned()));
        }
        for head in listed() {
            let (field, classes) = (format!("{of}.{}", head.name), head.class_count(&self.model));
            match logits.get(&head.name) {
                None => return Err((field, "missing".to_owned())),
                Some(logits) if logits.len() != classes => {
                    return Err((field, format!("{} logits, the head has {classes} classes", logits.len())));
                }
                Some(logits) if !logits.iter().all(|logit| logit.is_finite()) => {
                    return Err((field, "not all logits are finite".to_owned()));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The files with weights of all graphs, some more than once.
    pub(crate) fn weights_files(&self) -> impl Iterator<Item = &str> {
        self.graphs.values().map(|graph| &*graph.weights)
    }

    /// Whether a file belongs to graphs that are not this one, and to nothing else.
    pub(crate) fn is_of_another(&self, file: &str, graph: &str) -> bool {
        let mut owners = self.graphs.iter().filter(|(_, owner)| owner.files().any(|own| own == file)).peekable();
        owners.peek().is_some() && owners.all(|(owner, _)| owner != graph)
    }

    /// The place of a head among the heads.
    pub(crate) fn head(&self, name: &str) -> Option<usize> {
        self.heads.iter().position(|head| head.name == name)
    }

    /// What answers are judged by: labels of heads, or of the variant "gen" what the model may say.
    pub(crate) fn response_labels(&self, bundle: &str) -> Result<Arc<Labels>> {
        match &self.answer {
            Some(answer) => Ok(Arc::new(answer.labels(&answer.response))),
            None => self.labels(bundle, RESPONSE_HEADS),
        }
    }

    /// What prompts are judged by.
    pub(crate) fn query_labels(&self, bundle: &str) -> Result<Arc<Labels>> {
        match &self.answer {
            Some(answer) => Ok(Arc::new(answer.labels(&answer.prompt))),
            None => self.labels(bundle, QUERY_HEADS),
        }
    }

    fn labels(&self, bundle: &str, [risk, category]: [&str; 2]) -> Result<Arc<Labels>> {
        let labels = |name: &str| match self.head(name).map(|index| (index, self.heads[index].classes())) {
            Some((index, Classes::Labels(labels))) => Ok((index, labels)),
            Some((index, _)) => Err(field_error(
                bundle,
                &format!("heads[{index}].kind"),
                &format!("{name:?} must be of kind \"labels\""),
            )),
            None => Err(field_error(bundle, "heads", &format!("there is no head {name:?}"))),
        };
        let (index, levels) = labels(risk)?;
        let risks = parse_risks(bundle, &format!("heads[{index}].labels"), levels)?;
        Ok(Arc::new(Labels { risks, categories: labels(category)?.1.to_vec() }))
    }

    fn validate(&self) -> Result<(), (&'static str, String)> {
        let architecture = match (&*self.variant, &self.answer) {
            (STREAM, None) => "Qwen3ForGuardModel",
            (GEN, Some(_)) => "Qwen3ForCausalLM",
            (STREAM, Some(_)) => return Err(("answer", "a bundle of the variant \"stream\" has none".to_owned())),
            (GEN, None) => return Err(("answer", "missing".to_owned())),
            (variant, _) => return Err(("variant", format!("{variant:?} is not \"stream\" or \"gen\""))),
        };
        if self.zero_points && self.precision != Precision::Int4 {
            let reason = format!("weights in {} have none, only int4 has", self.precision.name());
            return Err(("zero_points", reason));
        }
        let texts = self.source.sha256.iter().flat_map(|(file, digest)| [file, digest]);
        for text in texts.chain([&self.exporter, &self.source.name]) {
            if text.len() > limits::TEXT_BYTES || text.contains(char::is_control) {
                let reason = format!("{text:?} is not one line of at most {} bytes", limits::TEXT_BYTES);
                return Err(("source", reason));
            }
        }
        let model = &self.model;
        if model.architecture != architecture {
            let reason = format!("{:?} is not {architecture:?}", model.architecture);
            return Err(("model.architecture", reason));
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
        for name in OTHER_FILES {
            self.check_listed(name)?;
        }
        let weights: Vec<&str> = self.weights_files().collect();
        for file in self.graphs.values().flat_map(Graph::graph_files) {
            if file == "guard.toml" || OTHER_FILES.contains(&file) || weights.contains(&file) {
                return Err(("graphs", format!("{file:?} is not a graph")));
            }
            self.check_listed(file)?;
        }
        for file in weights {
            if file == "guard.toml" || OTHER_FILES.contains(&file) {
                return Err(("graphs", format!("{file:?} has no weights")));
            }
            self.check_listed(file)?;
        }
        Ok(())
    }

    fn check_listed(&self, file: &str) -> Result<(), (&'static str, String)> {
        match self.files.contains_key(file) {
            true => Ok(()),
            false => Err(("files", format!("{file} is not listed"))),
        }
    }
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
