//! What a model of the variant "gen" may answer, as the table `answer` of `guard.toml` lists it.

use std::collections::HashSet;

use serde::Deserialize;

use super::{
    dimensions::Dimensions,
    head::{Classes, FieldError, Head},
    limits,
};
use crate::verdict::{Labels, NO_CATEGORY, Risk};

/// The pieces of answers. An answer's ids are those of its pieces in a row.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Answer {
    /// The first ends an answer held to the grammar, any ends a free one.
    pub(crate) end_tokens: Vec<u32>,
    /// Of a prompt.
    pub(crate) prompt: ModeLines,
    /// Of a conversation that something else than a prompt ends.
    pub(crate) response: ModeLines,
    pub(crate) safety: Safety,
    pub(crate) categories: Categories,
    pub(crate) refusal: Option<Refusal>,
}

/// What is answered in one mode.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModeLines {
    lines: Vec<String>,
    /// The names that may be said, in the model's order.
    pub(crate) categories: Vec<String>,
}

impl ModeLines {
    /// Whether the line of refusals is written.
    pub(crate) fn has_refusal(&self) -> bool {
        self.lines.iter().any(|line| line == REFUSAL)
    }
}

/// A part of an answer.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
}

/// A part of an answer that says something.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) piece: Piece,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Safety {
    pub(crate) begin: Piece,
    pub(crate) labels: Vec<Named>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Categories {
    pub(crate) begin: Piece,
    pub(crate) none: Piece,
    pub(crate) separator: Piece,
    /// Of all modes.
    pub(crate) names: Vec<Named>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) begin: Piece,
    pub(crate) yes: Piece,
    pub(crate) no: Piece,
}

const LINES: [&str; 2] = ["safety", "categories"];
const REFUSAL: &str = "refusal";

impl Answer {
    /// All pieces, with the fields that they are in.
    pub(crate) fn pieces(&self) -> Vec<(String, &Piece)> {
        let Categories { begin, none, separator, names } = &self.categories;
        let mut pieces = vec![
            ("safety.begin".to_owned(), &self.safety.begin),
            ("categories.begin".to_owned(), begin),
            ("categories.none".to_owned(), none),
            ("categories.separator".to_owned(), separator),
        ];
        for (list, named) in [("safety.labels", &self.safety.labels), ("categories.names", names)] {
            pieces.extend(named.iter().enumerate().map(|(index, named)| (format!("{list}[{index}]"), &named.piece)));
        }
        if let Some(Refusal { begin, yes, no }) = &self.refusal {
            let refusal = [("refusal.begin", begin), ("refusal.yes", yes), ("refusal.no", no)];
            pieces.extend(refusal.map(|(field, piece)| (field.to_owned(), piece)));
        }
        pieces.into_iter().map(|(field, piece)| (format!("answer.{field}"), piece)).collect()
    }

    /// The levels, in the model's order.
    pub(crate) fn risks(&self) -> Vec<Risk> {
        self.safety.labels.iter().filter_map(|label| Risk::from_label(&label.name)).collect()
    }

    /// The most tokens of a level's name.
    pub(crate) fn longest_label(&self) -> usize {
        self.safety.labels.iter().map(|label| label.piece.ids.len()).max().unwrap_or(0)
    }

    /// The most tokens of an answer held to the grammar: one that names all categories.
    pub(crate) fn most_tokens(&self) -> usize {
        let Categories { begin, none, separator, names } = &self.categories;
        let named: usize = names.iter().map(|named| named.piece.ids.len() + separator.ids.len()).sum();
        let refusal = self
            .refusal
            .as_ref()
            .map_or(0, |Refusal { begin, yes, no }| begin.ids.len() + yes.ids.len().max(no.ids.len()));
        let safety = self.safety.begin.ids.len() + self.longest_label();
        safety + begin.ids.len() + named.max(none.ids.len()) + refusal
    }

    /// What is said of one mode.
    pub(crate) fn labels(&self, mode: &ModeLines) -> Labels {
        Labels { risks: self.risks(), categories: mode.categories.clone() }
    }

    /// How a category is written, which [`check`] has made sure of.
    pub(crate) fn category(&self, name: &str) -> Option<&Piece> {
        self.categories.names.iter().find(|named| named.name == name).map(|named| &named.piece)
    }

    /// The first token of what ends the line of categories.
    pub(crate) fn line_end(&self, mode: &ModeLines) -> u32 {
        let refusal = self.refusal.as_ref().filter(|_| mode.has_refusal());
        refusal.map_or(self.end_tokens[0], |refusal| refusal.begin.ids[0])
    }

    /// All decisions, by the fields that they are about: what is decided between.
    fn decisions(&self) -> Vec<(String, Vec<&[u32]>)> {
        let labels = self.safety.labels.iter().map(|label| &label.piece.ids[..]).collect();
        let mut decisions: Vec<(String, Vec<&[u32]>)> = vec![("answer.safety.labels".to_owned(), labels)];
        for (name, mode) in self.modes() {
            let names = mode.categories.iter().filter_map(|name| self.category(name)).map(|piece| &piece.ids[..]);
            let all = std::iter::once(&self.categories.none.ids[..]).chain(names).collect();
            decisions.push((format!("answer.{name}.categories"), all));
        }
        if let Some(Refusal { yes, no, .. }) = &self.refusal {
            decisions.push(("answer.refusal".to_owned(), vec![&yes.ids, &no.ids]));
        }
        decisions
    }

    fn modes(&self) -> [(&'static str, &ModeLines); 2] {
        [("prompt", &self.prompt), ("response", &self.response)]
    }
}

/// The tokens after which sequences that begin alike part.
fn branching(choices: &[&[u32]]) -> Vec<u32> {
    let mut tokens = Vec::new();
    for choice in choices {
        for depth in 0..choice.len() {
            let alike = choices.iter().filter(|other| other.len() > depth && other[..depth] == choice[..depth]);
            if alike.clone().any(|other| other[depth] != choice[depth]) {
                tokens.push(choice[depth]);
            }
        }
    }
    tokens
}

/// Checks the table, and that the head `candidates` has the tokens of every decision.
pub(super) fn check(answer: &Answer, heads: &[Head], model: &Dimensions) -> Result<(), FieldError> {
    let at = |field: &str, reason: String| Err((field.to_owned(), reason));
    check_ids(&answer.end_tokens, limits::END_TOKENS, model).or_else(|reason| at("answer.end_tokens", reason))?;
    for (field, piece) in answer.pieces() {
        check_text(&piece.text).or_else(|reason| at(&format!("{field}.text"), reason))?;
        check_ids(&piece.ids, limits::PIECE_TOKENS, model).or_else(|reason| at(&format!("{field}.ids"), reason))?;
    }
    check_labels(&answer.safety.labels)?;
    check_names(&answer.categories.names)?;
    for (name, mode) in answer.modes() {
        check_mode(answer, mode).or_else(|(field, reason)| at(&format!("answer.{name}.{field}"), reason))?;
    }
    for (field, choices) in answer.decisions() {
        let clash = choices.iter().enumerate().find_map(|(index, choice)| {
            let other = choices.iter().enumerate().find(|(other, ids)| *other != index && ids.starts_with(choice))?;
            Some((index, other.0))
        });
        if let Some((index, other)) = clash {
            return at(&field, format!("the ids of choice {index} begin those of choice {other}"));
        }
    }
    check_candidates(answer, heads)
}

fn check_text(text: &str) -> Result<(), String> {
    let line = text.strip_prefix('\n').unwrap_or(text);
    let plain = !line.is_empty() && line.len() <= limits::PIECE_BYTES && !line.contains(char::is_control);
    if plain {
        Ok(())
    } else {
        Err(format!("{text:?} is not a text of 1 to {} bytes on one line", limits::PIECE_BYTES))
    }
}

fn check_ids(ids: &[u32], most: usize, model: &Dimensions) -> Result<(), String> {
    if !(1..=most).contains(&ids.len()) {
        return Err(format!("{} tokens, not 1 to {most}", ids.len()));
    }
    match ids.iter().find(|id| **id as usize >= model.vocab_size) {
        Some(id) => Err(format!("{id} is not below model.vocab_size {}", model.vocab_size)),
        None => Ok(()),
    }
}

fn check_labels(labels: &[Named]) -> Result<(), FieldError> {
    let at = |reason: String| Err(("answer.safety.labels".to_owned(), reason));
    let mut risks = Vec::new();
    for Named { name, .. } in labels {
        match Risk::from_label(name) {
            Some(risk) if !risks.contains(&risk) => risks.push(risk),
            Some(_) => return at(format!("{name:?} appears twice")),
            None => return at(format!("{name:?} is not a known level")),
        }
    }
    match risks.contains(&Risk::Safe) && risks.len() > 1 {
        true => Ok(()),
        false => at("needs Safe and at least one level above it".to_owned()),
    }
}

fn check_names(names: &[Named]) -> Result<(), FieldError> {
    let at = |index: usize, reason: String| Err((format!("answer.categories.names[{index}].name"), reason));
    let mut known = HashSet::new();
    for (index, Named { name, .. }) in names.iter().enumerate() {
        if name.trim().is_empty() || name.len() > limits::LABEL_BYTES || name.contains(char::is_control) {
            return at(index, format!("{name:?} is not a name of 1 to {} bytes on one line", limits::LABEL_BYTES));
        }
        if name == NO_CATEGORY {
            return at(index, format!("{name:?} stands for no category"));
        }
        if !known.insert(name) {
            return at(index, format!("{name:?} appears twice"));
        }
    }
    Ok(())
}

fn check_mode(answer: &Answer, mode: &ModeLines) -> Result<(), FieldError> {
    let at = |field: &str, reason: String| Err((field.to_owned(), reason));
    let (lines, names) = (&mode.lines, &mode.categories);
    let rest = lines.strip_prefix(&LINES.map(str::to_owned)[..]);
    match rest {
        Some([]) => {}
        Some([line]) if line == REFUSAL && answer.refusal.is_some() => {}
        Some([line]) if line == REFUSAL => return at("lines", "there is no table answer.refusal".to_owned()),
        _ => return at("lines", format!("{lines:?} are not safety, categories and perhaps refusal")),
    }
    if !(1..=limits::CATEGORIES).contains(&names.len()) {
        return at("categories", format!("{} names, 1 to {} can be", names.len(), limits::CATEGORIES));
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return at("categories", format!("{name:?} appears twice"));
        }
        if answer.category(name).is_none() {
            return at("categories", format!("{name:?} is not in answer.categories.names"));
        }
    }
    match answer.line_end(mode) == answer.categories.separator.ids[0] {
        true => at("lines", "what ends the line of categories begins as their separator".to_owned()),
        false => Ok(()),
    }
}

fn check_candidates(answer: &Answer, heads: &[Head]) -> Result<(), FieldError> {
    let at = |field: String, reason: String| Err((field, reason));
    let find = |name: &str| heads.iter().enumerate().find(|(_, head)| head.name == name);
    let missing = |name: &str| ("heads".to_owned(), format!("there is no head {name:?}"));
    let (index, head) = find(CANDIDATES).ok_or_else(|| missing(CANDIDATES))?;
    let Classes::Candidates(tokens) = head.classes() else {
        return at(format!("heads[{index}].kind"), format!("{CANDIDATES:?} must be of kind \"candidates\""));
    };
    let known: HashSet<u32> = tokens.iter().copied().collect();
    let ends = answer.modes().map(|(_, mode)| answer.line_end(mode));
    let following = ends.into_iter().chain([answer.categories.separator.ids[0]]);
    let decided = answer.decisions().into_iter().flat_map(|(_, choices)| branching(&choices));
    if let Some(id) = decided.chain(following).find(|id| !known.contains(id)) {
        return at(format!("heads[{index}].tokens"), format!("{id} is missing, which answers are decided by"));
    }
    let (index, head) = find(NEXT_TOKEN).ok_or_else(|| missing(NEXT_TOKEN))?;
    match head.classes() {
        Classes::Vocabulary => Ok(()),
        _ => at(format!("heads[{index}].kind"), format!("{NEXT_TOKEN:?} must be of kind \"vocabulary\"")),
    }
}

/// The heads of the variant "gen" that the library reads.
pub(crate) const CANDIDATES: &str = "candidates";
pub(crate) const NEXT_TOKEN: &str = "next_token";
