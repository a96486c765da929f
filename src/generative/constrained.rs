//! An answer that is held to its grammar: what is decided, by logits that the model is asked for.
//!
//! Deciding starts anew from the first line whenever there are new rows of logits, and stops where one is missing. That is
//! cheap, there are a few rows, and it says in one piece what an answer is. What the model is fed is not known here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    annotation::{Annotation, AnnotationMode, Decoding},
    bundle::{Answer, ModeLines, Piece, Refusal},
    verdict::Risk,
};

/// Logits of the candidates, by the ids of the answer before them.
pub(super) struct Rows {
    tokens: Arc<[u32]>,
    known: HashMap<Vec<u32>, Vec<f32>>,
}

impl Rows {
    /// `tokens` are the candidates, in the order of the logits.
    pub(super) fn new(tokens: Arc<[u32]>) -> Self {
        Rows { tokens, known: HashMap::new() }
    }

    pub(super) fn insert(&mut self, ids: &[u32], logits: Vec<f32>) {
        self.known.insert(ids.to_vec(), logits);
    }

    /// The shares of some tokens after some ids. A token that is no candidate has none.
    fn shares(&self, ids: &[u32], tokens: &[u32]) -> Option<Vec<f64>> {
        let logits = self.known.get(ids)?;
        let place = |token: &u32| self.tokens.iter().position(|known| known == token);
        let logit = |token: &u32| place(token).map_or(f64::NEG_INFINITY, |place| f64::from(logits[place]));
        let logits: Vec<f64> = tokens.iter().map(logit).collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        Some(powers.into_iter().map(|power| power / sum).collect())
    }
}

/// A row that is missing.
#[derive(Debug, PartialEq)]
pub(super) struct Needed {
    /// The ids of the answer before it.
    pub(super) ids: Vec<u32>,
    /// What probably follows, where rows will be needed then.
    pub(super) draft: Vec<u32>,
}

/// Decides an answer, or says what it takes.
pub(super) fn decide(
    answer: &Answer,
    mode: AnnotationMode,
    decoding: Decoding,
    rows: &Rows,
) -> Result<Annotation, Needed> {
    let lines = mode.lines(answer);
    // Of a level alone nothing is drafted but the level.
    let refusal = answer.refusal.as_ref().filter(|_| decoding == Decoding::Constrained && lines.has_refusal());
    let annotation = Annotation::new(mode, Risk::Unsafe);
    let mut said = Said { answer, lines, refusal, rows, ids: Vec::new(), annotation };
    said.safety()?;
    if decoding == Decoding::Constrained {
        said.categories()?;
        said.refusal()?;
    }
    Ok(said.annotation)
}

/// An answer so far.
struct Said<'a> {
    answer: &'a Answer,
    lines: &'a ModeLines,
    /// If the mode has the line.
    refusal: Option<&'a Refusal>,
    rows: &'a Rows,
    ids: Vec<u32>,
    annotation: Annotation,
}

impl Said<'_> {
    fn safety(&mut self) -> Result<(), Needed> {
        let (labels, risks) = (&self.answer.safety.labels, self.answer.risks());
        self.say(&self.answer.safety.begin);
        let choices: Vec<&[u32]> = labels.iter().map(|label| &*label.piece.ids).collect();
        let probabilities = self.choose(&choices, &self.safe_draft())?;
        let grave = |index: &usize| (probabilities[*index], risks[*index]);
        let all = (0..risks.len()).reduce(|best, next| if grave(&next) > grave(&best) { next } else { best });
        let best = all.unwrap_or(0);
        self.annotation.risk = risks[best];
        let probabilities = probabilities.iter().map(|probability| *probability as f32);
        self.annotation.risk_probabilities = risks.into_iter().zip(probabilities).collect();
        self.say(&labels[best].piece);
        Ok(())
    }

    /// What follows the begin if the level is Safe, as far as something is decided there.
    fn safe_draft(&self) -> Vec<u32> {
        let label = self.answer.safety.labels.iter().find(|label| label.name == Risk::Safe.to_string());
        let label = label.map_or(&[][..], |label| &label.piece.ids);
        match self.refusal {
            Some(refusal) => {
                let categories = &self.answer.categories;
                [label, &categories.begin.ids, &categories.none.ids, &refusal.begin.ids].concat()
            }
            None => label[..label.len().saturating_sub(1)].to_vec(),
        }
    }

    fn categories(&mut self) -> Result<(), Needed> {
        let categories = &self.answer.categories;
        self.say(&categories.begin);
        if self.annotation.risk == Risk::Safe {
            self.say(&categories.none);
            return Ok(());
        }
        let names = self.lines.categories.iter();
        let mut left: Vec<_> = names.filter_map(|name| Some((name, self.answer.category(name)?))).collect();
        let mut choices = vec![&*categories.none.ids];
        choices.extend(left.iter().map(|(_, piece)| &*piece.ids));
        let probabilities = self.choose(&choices, &[])?;
        let named = std::iter::once(None).chain(left.iter().map(|(name, _)| Some((*name).clone())));
        let first = named.zip(probabilities.iter().map(|probability| *probability as f32));
        self.annotation.category_probabilities = Some(first.collect());
        let Some(mut best) = first_largest(&probabilities).checked_sub(1) else {
            self.say(&categories.none);
            return Ok(());
        };
        loop {
            let (name, piece) = left.remove(best);
            self.annotation.categories.push(name.clone());
            self.say(piece);
            if left.is_empty() || !self.goes_on()? {
                return Ok(());
            }
            self.say(&categories.separator);
            let choices: Vec<&[u32]> = left.iter().map(|(_, piece)| &*piece.ids).collect();
            best = first_largest(&self.choose(&choices, &[])?);
        }
    }

    /// Whether another name follows.
    fn goes_on(&self) -> Result<bool, Needed> {
        let (separator, end) = (self.answer.categories.separator.ids[0], self.answer.line_end(self.lines));
        let draft = self.refusal.map_or(&[][..], |refusal| &refusal.begin.ids);
        let probabilities = self.choose(&[&[separator], &[end]], draft)?;
        Ok(probabilities[0] > probabilities[1])
    }

    fn refusal(&mut self) -> Result<(), Needed> {
        let Some(Refusal { begin, yes, no }) = self.refusal else { return Ok(()) };
        self.say(begin);
        let probabilities = self.choose(&[&yes.ids, &no.ids], &[])?;
        // In doubt it is none.
        let refuses = probabilities[0] > probabilities[1];
        self.annotation.refusal = Some(refuses);
        self.annotation.refusal_probability = Some(probabilities[0] as f32);
        self.say(if refuses { yes } else { no });
        Ok(())
    }

    fn say(&mut self, piece: &Piece) {
        self.ids.extend(&piece.ids);
        self.annotation.answer.push_str(&piece.text);
    }

    /// The probability of each of some choices: the product of its tokens', each among the tokens that may stand there.
    /// `draft` is what probably follows.
    fn choose(&self, choices: &[&[u32]], draft: &[u32]) -> Result<Vec<f64>, Needed> {
        let mut following: BTreeMap<&[u32], Vec<u32>> = BTreeMap::new();
        for choice in choices {
            for (depth, token) in choice.iter().enumerate() {
                let tokens = following.entry(&choice[..depth]).or_default();
                if !tokens.contains(token) {
                    tokens.push(*token);
                }
            }
        }
        let mut probabilities = vec![1.0; choices.len()];
        for (before, tokens) in following.into_iter().filter(|(_, tokens)| tokens.len() > 1) {
            let ids = [&self.ids, before].concat();
            let Some(shares) = self.rows.shares(&ids, &tokens) else {
                let draft = draft.strip_prefix(before).unwrap_or_default().to_vec();
                return Err(Needed { ids, draft });
            };
            for (choice, probability) in choices.iter().zip(&mut probabilities) {
                let token = choice.strip_prefix(before).and_then(|rest| rest.first());
                let share = tokens.iter().zip(&shares).find(|(other, _)| Some(*other) == token);
                *probability *= share.map_or(1.0, |(_, share)| *share);
            }
        }
        Ok(probabilities)
    }
}

fn first_largest(values: &[f64]) -> usize {
    let larger = |best: usize, next: usize| if values[next] > values[best] { next } else { best };
    (0..values.len()).reduce(larger).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids: 1 begins, 2 is shared by two levels, 9 ends.
    const ANSWER: &str = r#"
        end_tokens = [9]
        prompt = { lines = ["safety", "categories"], categories = ["A", "B"] }
        response = { lines = ["safety", "categories", "refusal"], categories = ["A", "B"] }
        [safety]
        begin = { text = "S:", ids = [1] }
        labels = [
            { name = "Safe", text = " s", ids = [2, 3] },
            { name = "Unsafe", text = " u", ids = [2, 4] },
            { name = "Controversial", text = " c", ids = [5] },
        ]
        [categories]
        begin = { text = "\nC:", ids = [10, 11] }
        none = { text = " none", ids = [12] }
        separator = { text = ",", ids = [13] }
        names = [{ name = "A", text = " a", ids = [14] }, { name = "B", text = " b", ids = [15, 16] }]
        [refusal]
        begin = { text = "\nR:", ids = [20, 21] }
        yes = { text = " yes", ids = [22] }
        no = { text = " no", ids = [23] }
    "#;
    const TOKENS: [u32; 12] = [2, 3, 4, 5, 12, 13, 14, 15, 20, 22, 23, 9];

    /// The ids before a row, and logits of some tokens there. All others are 0.
    type Favoured<'a> = (&'a [u32], &'a [(u32, f32)]);

    fn rows(favoured: &[Favoured]) -> Rows {
        let mut rows = Rows::new(TOKENS.into());
        for (ids, tokens) in favoured {
            let logit = |token: &u32| tokens.iter().find(|(other, _)| other == token).map_or(0.0, |(_, logit)| *logit);
            rows.insert(ids, TOKENS.iter().map(logit).collect());
        }
        rows
    }

    fn said(mode: AnnotationMode, rows: &Rows) -> Result<Annotation, Needed> {
        decide(&toml::from_str(ANSWER).unwrap(), mode, Decoding::Constrained, rows)
    }

    #[test]
    fn what_is_missing_is_asked_for_with_a_draft() {
        use AnnotationMode::{Prompt, Response};
        let needed = |mode, rows: &[Favoured]| {
            let Needed { ids, draft } = said(mode, &super::tests::rows(rows)).unwrap_err();
            (ids, draft)
        };
        assert_eq!(needed(Prompt, &[]), (vec![1], vec![2]));
        assert_eq!(needed(Response, &[]), (vec![1], vec![2, 3, 10, 11, 12, 20, 21]));
        // Where levels begin alike, they part at a row of its own, whatever is likelier before.
        assert_eq!(needed(Prompt, &[(&[1], &[(5, 9.0)])]), (vec![1, 2], vec![]));
        assert_eq!(needed(Response, &[(&[1], &[])]).1, [3, 10, 11, 12, 20, 21]);
        // Nobody reads what follows the level if that is all that is decided.
        let answer = toml::from_str(ANSWER).unwrap();
        let level = decide(&answer, Response, Decoding::LabelOnly, &super::tests::rows(&[])).unwrap_err();
        assert_eq!(level, Needed { ids: vec![1], draft: vec![2] });
        let grave: &[Favoured] = &[(&[1], &[(5, 9.0)]), (&[1, 2], &[])];
        assert_eq!(needed(Prompt, grave), (vec![1, 5, 10, 11], vec![]));
        let named = [grave, &[(&[1, 5, 10, 11], &[(15, 9.0)])]].concat();
        assert_eq!(needed(Prompt, &named), (vec![1, 5, 10, 11, 15, 16], vec![]));
        assert_eq!(needed(Response, &named), (vec![1, 5, 10, 11, 15, 16], vec![20, 21]));
    }

    #[test]
    fn probabilities_are_products_of_shares() {
        let ln = f32::ln;
        let rows = rows(&[(&[1], &[(2, ln(3.0))]), (&[1, 2], &[(4, ln(3.0))]), (&[1, 2, 4, 10, 11], &[(12, 5.0)])]);
        let annotation = said(AnnotationMode::Prompt, &rows).unwrap();
        let near = |found: f32, wanted: f32| assert!((found - wanted).abs() < 1e-6, "{found}, {wanted}");
        let [safe, unsafe_, controversial] = annotation.risk_probabilities[..] else { panic!("three levels") };
        near(safe.1, 0.75 * 0.25);
        near(unsafe_.1, 0.75 * 0.75);
        near(controversial.1, 0.25);
        assert_eq!((annotation.risk, &*annotation.answer), (Risk::Unsafe, "S: u\nC: none"));
        assert_eq!(annotation.categories.len(), 0);
        assert!(annotation.category_probabilities.unwrap()[0].1 > 0.9);
    }

    #[test]
    fn every_name_is_said_once_and_safe_has_none() {
        let unsafe_ = [1, 2, 4, 10, 11];
        let after = |rest: &[u32]| [&unsafe_, rest].concat();
        let (a, ab, end) = (after(&[14]), after(&[14, 13, 15, 16]), after(&[14, 13, 15, 16, 20, 21]));
        let rows = rows(&[
            (&[1], &[(2, 5.0)]),
            (&[1, 2], &[(4, 5.0)]),
            (&unsafe_, &[(14, 5.0)]),
            (&a, &[(13, 5.0)]),
            // There is nothing to decide between the names that are left, nor after the last.
            (&ab, &[(13, 5.0)]),
            (&end, &[(22, 5.0)]),
        ]);
        let annotation = said(AnnotationMode::Response, &rows).unwrap();
        assert_eq!((&*annotation.answer, annotation.refusal), ("S: u\nC: a, b\nR: yes", Some(true)));
        assert_eq!(annotation.categories, ["A", "B"]);
        let rows =
            super::tests::rows(&[(&[1], &[(2, 5.0)]), (&[1, 2], &[(3, 5.0)]), (&[1, 2, 3, 10, 11, 12, 20, 21], &[])]);
        let annotation = said(AnnotationMode::Response, &rows).unwrap();
        // In doubt it is no refusal.
        assert_eq!((&*annotation.answer, annotation.refusal), ("S: s\nC: none\nR: no", Some(false)));
        assert_eq!(annotation.category_probabilities, None);
    }

    #[test]
    fn of_equally_probable_levels_the_gravest_is_said() {
        let rows = rows(&[(&[1], &[(2, f32::ln(2.0))]), (&[1, 2], &[]), (&[1, 2, 4, 10, 11], &[(12, 5.0)])]);
        assert_eq!(said(AnnotationMode::Prompt, &rows).unwrap().risk, Risk::Unsafe);
    }
}
