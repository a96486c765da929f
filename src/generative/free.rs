//! What can be read in an answer that the model writes by itself.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::{
    annotation::{Annotation, AnnotationMode},
    bundle::{Answer, ModeLines},
    text::Tokenizer,
    verdict::Risk,
};

/// The likeliest of all tokens, of equally likely ones the first.
pub(super) fn likeliest(logits: impl IntoIterator<Item = f32>) -> u32 {
    let larger = |best: (usize, f32), next: (usize, f32)| if next.1 > best.1 { next } else { best };
    logits.into_iter().enumerate().reduce(larger).map_or(0, |(id, _)| id as u32)
}

/// Reads an answer line by line: the level, the names on the line of categories, the refusal. Each is looked for where a
/// line begins.
pub(super) fn read(answer: &Answer, mode: AnnotationMode, tokenizer: &Tokenizer, ids: &[u32]) -> Annotation {
    let lines = mode.lines(answer);
    let text = text(tokenizer, ids);
    let level = find(&text, &answer.safety.begin.text, answer.safety.labels.iter().map(|label| &*label.piece.text));
    let said = said(answer, lines, &text);
    let refusal = answer.refusal.as_ref().filter(|_| lines.has_refusal());
    let refuses = refusal.map(|refusal| {
        let choices = [&*refusal.yes.text, &refusal.no.text];
        find(&text, refusal.begin.text.trim_start_matches('\n'), choices.into_iter()).map(|index| index == 0)
    });
    let gravest = answer.risks().into_iter().max().unwrap_or(Risk::Unsafe);
    let risk = level.map_or(gravest, |index| answer.risks()[index]);
    let mut annotation = Annotation::new(mode, risk);
    let none = answer.categories.none.text.trim();
    for name in said.iter().filter(|name| **name != none) {
        if !annotation.categories.contains(name) {
            annotation.categories.push(name.clone());
        }
    }
    annotation.refusal = refuses.flatten();
    annotation.parsed = level.is_some() && !said.is_empty() && refuses != Some(None);
    annotation.answer = text;
    annotation
}

/// What tokens stand for, without special ones.
fn text(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let text = ids.iter().filter(|id| !tokenizer.is_special(**id)).filter_map(|id| tokenizer.token_bytes(*id));
    String::from_utf8_lossy(&text.collect::<Vec<_>>().concat()).into_owned()
}

/// Which of some texts comes first after the begin of a line.
fn find<'t>(text: &str, begin: &str, choices: impl Iterator<Item = &'t str> + Clone) -> Option<usize> {
    let lines = text.split('\n').filter_map(|line| line.strip_prefix(begin));
    let mut found = lines.filter_map(|rest| choices.clone().position(|choice| rest.starts_with(choice)));
    found.next()
}

/// The names on the first line of categories, the one for no category among them.
fn said(answer: &Answer, lines: &ModeLines, text: &str) -> Vec<String> {
    let begin = answer.categories.begin.text.trim_start_matches('\n');
    let Some(line) = text.split('\n').find_map(|line| line.strip_prefix(begin)) else { return Vec::new() };
    let names = lines.categories.iter().map(String::as_str).chain([answer.categories.none.text.trim()]);
    let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(names);
    let found = finder.iter().flat_map(|finder| finder.find_iter(line));
    found.map(|found| line[found.range()].to_owned()).collect()
}
