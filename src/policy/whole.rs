//! What a verdict on a whole conversation counts as.

use serde::Serialize;

use super::{
    Policy,
    rules::{Action, CategoryRule, Judge, Levels, Mode},
};
use crate::verdict::Risk;

/// A verdict on a whole conversation.
pub(crate) struct Whole<'a> {
    /// Of a prompt, else of an answer.
    pub(crate) is_prompt: bool,
    /// The level that it says.
    pub(crate) risk: Risk,
    /// Of each level.
    pub(crate) probability: &'a dyn Fn(Risk) -> f32,
    /// The categories that it names. None: they are not known.
    pub(crate) named: &'a [String],
    /// Every category's of being named first, if that was decided; `None` stands for no category.
    pub(crate) probabilities: &'a [(Option<String>, f32)],
}

/// What a policy found in an annotation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AnnotationFinding {
    /// What is to be done.
    pub action: Action,
    /// The level that it counts as.
    pub risk: Risk,
    /// The category whose rule decided, or that is named. `None` if no category is known.
    pub category: Option<String>,
    /// Probability of the level, 0 to 1.
    pub probability: f32,
    /// The rule, by the names of its settings, such as `answer.strict` or `prompt.categories.PII.custom`.
    pub rule: String,
}

impl Policy {
    /// What an annotation counts as: of all categories that it is of, the one with the gravest action, then the gravest
    /// level, then the highest probability. Where no category is known it may be of any: then every rule is tried.
    pub(crate) fn find(&self, whole: &Whole) -> Option<AnnotationFinding> {
        let (channel, judge) =
            if whole.is_prompt { ("prompt", self.prompt.judge()) } else { ("answer", self.answer.judge()) };
        let probability = |name: &str| {
            let found = whole.probabilities.iter().find(|(other, _)| other.as_deref() == Some(name));
            found.map_or(0.0, |(_, probability)| *probability)
        };
        let mut found = Vec::new();
        if whole.named.is_empty() {
            found.push((whole.find(channel, &judge, None), 0.0));
            let rules = judge.categories.iter();
            found.extend(rules.map(|rule| (whole.find(channel, &judge, Some(rule)), 0.0)));
        }
        let reaches = |name: &String, rule: &CategoryRule| rule.at.is_some_and(|at| probability(name) >= at);
        let reached = judge.categories.iter().filter(|(name, rule)| !whole.named.contains(name) && reaches(name, rule));
        let names = whole.named.iter().chain(reached.map(|(name, _)| name));
        for name in names {
            let finding = match judge.categories.get_key_value(name) {
                Some(rule) => whole.find(channel, &judge, Some(rule)),
                None => whole.find(channel, &judge, None),
            };
            let finding = finding.map(|finding| AnnotationFinding { category: Some(name.clone()), ..finding });
            found.push((finding, probability(name)));
        }
        let grave = |(finding, probability): &(AnnotationFinding, f32)| (finding.action, finding.risk, *probability);
        let found = found.into_iter().filter_map(|(finding, probability)| Some((finding?, probability)));
        let best = found.reduce(|best, next| if grave(&next) > grave(&best) { next } else { best });
        best.map(|(finding, _)| finding)
    }
}

impl Whole<'_> {
    /// By the rule of a category, or the one for all.
    fn find(&self, channel: &str, judge: &Judge, rule: Option<(&String, &CategoryRule)>) -> Option<AnnotationFinding> {
        let mode: &Mode = rule.and_then(|(_, rule)| rule.mode.as_ref()).unwrap_or(judge.mode);
        let (risk, action) = mode.level(&Levels { risk: self.risk, probability: self.probability })?;
        let action = rule.and_then(|(_, rule)| rule.action).unwrap_or(action);
        let rule = match rule {
            Some((name, _)) => format!("{channel}.categories.{name}.{}", mode.name()),
            None => format!("{channel}.{}", mode.name()),
        };
        let finding = AnnotationFinding { action, risk, category: None, probability: (self.probability)(risk), rule };
        (action > Action::Ignore).then_some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decision;

    struct Said {
        risk: Risk,
        levels: [f32; 3],
        named: Vec<String>,
        probabilities: Vec<(Option<String>, f32)>,
    }

    fn said(levels: [f32; 3], named: &[&str], probabilities: &[(&str, f32)]) -> Said {
        let risks = [Risk::Safe, Risk::Controversial, Risk::Unsafe];
        let best = (0..3).reduce(|best, next| if levels[next] >= levels[best] { next } else { best }).unwrap();
        Said {
            risk: risks[best],
            levels,
            named: named.iter().map(ToString::to_string).collect(),
            probabilities: probabilities.iter().map(|(name, p)| (Some(name.to_string()), *p)).collect(),
        }
    }

    fn find(policy: &str, said: &Said) -> Option<(Action, Risk, Option<String>, String)> {
        let policy = Policy::from_toml(policy).unwrap();
        let probability = |risk: Risk| said.levels[risk as usize];
        let whole = Whole {
            is_prompt: false,
            risk: said.risk,
            probability: &probability,
            named: &said.named,
            probabilities: &said.probabilities,
        };
        let finding = policy.find(&whole)?;
        assert_eq!(policy.decide(Some(finding.action)) == Decision::Stop, finding.action == Action::Stop);
        Some((finding.action, finding.risk, finding.category, finding.rule))
    }

    const CONTROVERSIAL: [f32; 3] = [0.3, 0.5, 0.2];

    #[test]
    fn strict_loose_and_thresholds() {
        let pii = said(CONTROVERSIAL, &["PII"], &[("PII", 0.9)]);
        let (action, risk, category, rule) = find("", &pii).unwrap();
        assert_eq!(
            (action, risk, category.as_deref(), &*rule),
            (Action::Stop, Risk::Controversial, Some("PII"), "answer.strict")
        );
        assert_eq!(find("[answer]\nmode = \"loose\"", &pii), None);
        let at = "[answer]\nmode = { custom = { unsafe = { at = 0.2 }, controversial = { action = \"ignore\" } } }";
        assert_eq!(find(at, &pii).unwrap().1, Risk::Unsafe);
        assert_eq!(find("", &said([0.9, 0.05, 0.05], &[], &[])), None);
        // The level is Safe, and its rule wants less.
        assert_eq!(find(at, &said([0.7, 0.1, 0.2], &[], &[])).unwrap().2, None);
    }

    #[test]
    fn every_category_that_is_named_or_likely_counts() {
        let both = said(CONTROVERSIAL, &["PII", "Violent"], &[("PII", 0.6), ("Violent", 0.1), ("Jailbreak", 0.25)]);
        let ignore = "[answer.categories.PII]\naction = \"ignore\"\n";
        assert_eq!(find(ignore, &both).unwrap().2.as_deref(), Some("Violent"));
        let flag = format!("{ignore}[answer.categories.Violent]\naction = \"flag\"");
        assert_eq!(find(&flag, &both).unwrap().0, Action::Flag);
        let likely = format!("{flag}\n[answer.categories.Jailbreak]\nat = 0.2");
        let (action, _, category, rule) = find(&likely, &both).unwrap();
        assert_eq!((action, category.as_deref()), (Action::Stop, Some("Jailbreak")));
        assert_eq!(rule, "answer.categories.Jailbreak.strict");
    }

    /// It may be of the category that is ruled more strictly.
    #[test]
    fn a_category_that_is_not_known_may_be_any() {
        let unknown = said(CONTROVERSIAL, &[], &[]);
        let stricter = "[answer]\nmode = \"loose\"\n[answer.categories.PII]\nmode = \"strict\"";
        let (action, _, category, rule) = find(stricter, &unknown).unwrap();
        assert_eq!((action, category, &*rule), (Action::Stop, None, "answer.categories.PII.strict"));
        assert_eq!(find("[answer.categories.PII]\naction = \"ignore\"", &unknown).unwrap().3, "answer.strict");
    }
}
