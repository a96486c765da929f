//! The heads of a model, as `guard.toml` lists them.

use std::collections::HashSet;

use serde::Deserialize;

use super::{dimensions::Dimensions, limits};

/// A field of `guard.toml`, and what is wrong with it.
pub(super) type FieldError = (String, String);

/// An output of the graph, `[rows, classes]`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Head {
    /// The graph's output.
    pub(crate) name: String,
    kind: String,
    /// The graph's input that names the rows which the head is computed for. Heads may share one.
    pub(crate) rows: String,
    labels: Option<Vec<String>>,
    tokens: Option<Vec<u32>>,
}

/// What the classes of a head are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Classes<'h> {
    /// One for each of these labels.
    Labels(&'h [String]),
    /// One for each of these token ids.
    Candidates(&'h [u32]),
    /// One for each token id.
    Vocabulary,
}

/// What the graph names otherwise.
const TAKEN: [&str; 5] = ["input_ids", "cu_seqlens", "past_lens", "block_table", "row_check"];

impl Head {
    /// What its classes are, or the field that does not fit its kind.
    fn parsed(&self) -> Result<Classes<'_>, (&'static str, String)> {
        match (&*self.kind, &self.labels, &self.tokens) {
            ("labels", Some(labels), None) => Ok(Classes::Labels(labels)),
            ("candidates", None, Some(tokens)) => Ok(Classes::Candidates(tokens)),
            ("vocabulary", None, None) => Ok(Classes::Vocabulary),
            ("labels", None, _) => Err(("labels", "missing".to_owned())),
            ("candidates", _, None) => Err(("tokens", "missing".to_owned())),
            ("labels", ..) => Err(("tokens", "a head of kind \"labels\" has none".to_owned())),
            ("candidates" | "vocabulary", Some(_), _) => {
                Err(("labels", format!("a head of kind {:?} has none", self.kind)))
            }
            ("vocabulary", ..) => Err(("tokens", "a head of kind \"vocabulary\" has none".to_owned())),
            (kind, ..) => Err(("kind", format!("{kind:?} is not \"labels\", \"candidates\" or \"vocabulary\""))),
        }
    }

    /// What its classes are.
    pub(crate) fn classes(&self) -> Classes<'_> {
        self.parsed().unwrap_or(Classes::Vocabulary)
    }

    /// How many classes it has.
    pub(crate) fn class_count(&self, model: &Dimensions) -> usize {
        match self.classes() {
            Classes::Labels(labels) => labels.len(),
            Classes::Candidates(tokens) => tokens.len(),
            Classes::Vocabulary => model.vocab_size,
        }
    }

    fn check(&self, model: &Dimensions) -> Result<(), (&'static str, String)> {
        for (field, name) in [("name", &self.name), ("rows", &self.rows)] {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            if !(1..=limits::HEAD_NAME_BYTES).contains(&name.len()) || !name.bytes().all(plain) {
                let limit = limits::HEAD_NAME_BYTES;
                return Err((field, format!("{name:?} is not 1 to {limit} letters (a to z), digits and _")));
            }
            if TAKEN.contains(&&**name) {
                return Err((field, format!("{name:?} is something else in the graph")));
            }
        }
        match self.parsed()? {
            Classes::Labels(labels) => check_labels(labels).map_err(|reason| ("labels", reason)),
            Classes::Candidates(tokens) => check_tokens(tokens, model).map_err(|reason| ("tokens", reason)),
            Classes::Vocabulary => Ok(()),
        }
    }
}

/// Checks all heads of a bundle.
pub(super) fn check(heads: &[Head], model: &Dimensions) -> Result<(), FieldError> {
    if !(1..=limits::MODEL_HEADS).contains(&heads.len()) {
        return Err(("heads".to_owned(), format!("{} heads, 1 to {} can be", heads.len(), limits::MODEL_HEADS)));
    }
    for (index, head) in heads.iter().enumerate() {
        head.check(model).map_err(|(field, reason)| (format!("heads[{index}].{field}"), reason))?;
        let name = &head.name;
        if heads[..index].iter().any(|other| other.name == *name) {
            return Err((format!("heads[{index}].name"), format!("{name:?} appears twice")));
        }
        if heads.iter().any(|other| other.rows == *name) {
            return Err((format!("heads[{index}].name"), format!("{name:?} is an input of rows, too")));
        }
    }
    Ok(())
}

fn check_labels(labels: &[String]) -> Result<(), String> {
    if !(1..=limits::CATEGORIES).contains(&labels.len()) {
        return Err(format!("{} labels, 1 to {} can be", labels.len(), limits::CATEGORIES));
    }
    for (index, label) in labels.iter().enumerate() {
        if label.trim().is_empty() || label.len() > limits::LABEL_BYTES || label.contains(char::is_control) {
            return Err(format!("{label:?} is not a name of 1 to {} bytes on one line", limits::LABEL_BYTES));
        }
        if labels[..index].contains(label) {
            return Err(format!("{label:?} appears twice"));
        }
    }
    Ok(())
}

fn check_tokens(tokens: &[u32], model: &Dimensions) -> Result<(), String> {
    if !(1..=limits::CANDIDATES).contains(&tokens.len()) {
        return Err(format!("{} tokens, 1 to {} can be", tokens.len(), limits::CANDIDATES));
    }
    let mut known = HashSet::with_capacity(tokens.len());
    for id in tokens {
        if *id as usize >= model.vocab_size {
            return Err(format!("{id} is not below model.vocab_size {}", model.vocab_size));
        }
        if !known.insert(id) {
            return Err(format!("{id} appears twice"));
        }
    }
    Ok(())
}
