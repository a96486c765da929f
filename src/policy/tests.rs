//! What policies make of verdicts, as tables.

use std::sync::Arc;

use ndarray::array;

use super::*;
use crate::verdict::{Risk, Verdict};

/// A verdict with these probabilities of Safe, Controversial and Unsafe, and of the categories Violent and PII.
fn verdict(safe: f32, controversial: f32, r#unsafe: f32, violent: f32, pii: f32) -> Verdict {
    let labels = Labels {
        risks: vec![Risk::Safe, Risk::Unsafe, Risk::Controversial],
        categories: vec!["Violent".into(), "PII".into()],
    };
    let risk = array![safe.ln(), r#unsafe.ln(), controversial.ln()];
    Verdict::from_logits(&Arc::new(labels), risk.view(), array![violent.ln(), pii.ln()].view())
}

/// A clear verdict of the level with this letter: s, c, u.
fn level(letter: char) -> Verdict {
    match letter {
        's' => verdict(0.9, 0.05, 0.05, 0.9, 0.1),
        'c' => verdict(0.1, 0.8, 0.1, 0.9, 0.1),
        'u' => verdict(0.05, 0.05, 0.9, 0.9, 0.1),
        other => panic!("level {other}"),
    }
}

fn rules(toml: &str) -> Rules {
    Policy::from_toml(&format!("[answer]\n{toml}")).unwrap_or_else(|error| panic!("{toml}: {error}")).answer
}

/// For every token of a text: `!` where a violation that stops is confirmed, `f` where one that flags is, `?` where
/// tokens are pending, `.` where all is decided.
fn watch(rules: &Rules, levels: &str) -> String {
    let mut watch = Watch::default();
    let mark = |letter| match watch.next(rules.debounce, &rules.look(&level(letter))).map(|fired| fired.what) {
        Some(What::Violation(Action::Stop)) => '!',
        Some(What::Violation(_)) => 'f',
        Some(What::Doubt) => 'd',
        None if watch.pending(rules.debounce, rules.second_opinion.holds()) > 0 => '?',
        None => '.',
    };
    levels.chars().map(mark).collect()
}

#[test]
fn two_in_a_row() {
    let table = [
        // levels    strict    loose
        ("ssssss", "......", "......"),
        ("sususu", ".?.?.?", ".?.?.?"),
        ("ssuuss", "..?!..", "..?!.."),
        ("uuuuuu", "?!????", "?!????"), // a run is reported once; its last token may belong to a next one
        ("suusuu", ".?!.?!", ".?!.?!"),
        ("sscuss", "..?!..", "...?.."), // a mixed pair
        ("ssucss", "..?!..", "..?..."),
        ("sccsuu", ".?!.?!", "....?!"),
    ];
    for (levels, strict, loose) in table {
        assert_eq!(watch(&rules("mode = 'strict'"), levels), strict, "{levels} strict");
        assert_eq!(watch(&rules("mode = 'loose'"), levels), loose, "{levels} loose");
    }
}

/// Where the paper's rule (section 4.4) and the eval script's `consecutive_unsafe` differ.
#[test]
fn the_paper_and_the_eval_script() {
    let table = [
        // levels    paper     eval
        ("sscuss", "..?!..", "..??.."), // a mixed pair fires in the paper, never in the eval script
        ("ssucss", "..?!..", "..??.."),
        ("sccsuu", ".?!.?!", ".?!.?!"), // both pairs fire; in the eval script the second takes the first one's place
        ("ssuuss", "..?!..", "..?!.."),
        ("cucucu", "?!????", "??????"),
        ("ccuu", "?!??", "?!?!"),
    ];
    for (levels, paper, eval) in table {
        assert_eq!(watch(&rules("debounce = { consecutive = 2 }"), levels), paper, "{levels} paper");
        assert_eq!(watch(&rules("debounce = 'eval'"), levels), eval, "{levels} eval");
    }
}

#[test]
fn other_debounces() {
    let table = [
        ("debounce = { consecutive = 1 }", "ssusuu", "..!.!."),
        ("debounce = { consecutive = 3 }", "suusuuus", ".??.??!."),
        ("debounce = { window = { hits = 1, of = 1 } }", "ssus", "..!."),
        ("debounce = { window = { hits = 2, of = 3 } }", "susus", ".??!?"),
        ("debounce = { window = { hits = 2, of = 3 } }", "susssu", ".??..?"),
        ("debounce = { window = { hits = 3, of = 5 } }", "ususus", "????!?"),
        ("debounce = { window = { hits = 3, of = 5 } }", "ussssu", "???..?"),
    ];
    for (toml, levels, expected) in table {
        assert_eq!(watch(&rules(toml), levels), expected, "{toml} {levels}");
    }
}

/// A violation starts at its first token that counts, and until then that token was always pending.
#[test]
fn nothing_of_a_violation_was_ever_decided() {
    for debounce in
        ["{ consecutive = 3 }", "'eval'", "{ window = { hits = 2, of = 4 } }", "{ window = { hits = 3, of = 6 } }"]
    {
        for doubt in ["", "mode = 'loose'\nsecond_opinion.uncertain.at = 0.5"] {
            let rules = rules(&format!("debounce = {debounce}\n{doubt}"));
            // All texts of ten tokens, or some of them.
            for code in (0..3usize.pow(10)).step_by(if cfg!(miri) { 4001 } else { 1 }) {
                check_decided(&rules, code);
            }
        }
    }
}

fn check_decided(rules: &Rules, code: usize) {
    let looks = ['s', 'c', 'u'].map(|letter| rules.look(&level(letter)));
    let doubt = rules.second_opinion.holds();
    let mut watch = Watch::default();
    let mut decided = 0;
    for index in 0..10 {
        let look = &looks[code / 3usize.pow(index as u32) % 3];
        if let Some(fired) = watch.next(rules.debounce, look) {
            assert!(decided <= index + 1 - fired.tokens, "{rules:?}, text {code}, token {index}");
            break;
        }
        decided = decided.max(index + 1 - watch.pending(rules.debounce, doubt));
    }
}

/// `d` where tokens are in doubt. Loose rules, by which Controversial tokens do not count.
#[test]
fn tokens_in_doubt() {
    let table = [
        // levels   confirm   report
        ("sccs", ".?d.", "..d."),
        ("scus", ".?d.", "..d."), // with tokens that count
        ("sucs", ".?d.", ".?d."),
        ("suus", ".?!.", ".?!."), // what only counts is in no doubt
        ("suucs", ".?!?.", ".?!.."),
        ("scuus", ".?d!.", "..d!."),
        ("cccc", "?d??", ".d.."), // a run is asked about once, until it is decided
        ("uucc", "?!?d", "?!.d"), // and what follows a violation on its own account
    ];
    for (levels, confirm, report) in table {
        for (word, expected) in [("confirm", confirm), ("report", report)] {
            let toml = format!("mode = 'loose'\nsecond_opinion.uncertain = {{ at = 0.5, word = '{word}' }}");
            assert_eq!(watch(&rules(&toml), levels), expected, "{levels} {word}");
        }
    }
    let ignored = "mode = 'loose'\nsecond_opinion.uncertain.at = 0.5\ncategories.Violent.action = 'ignore'";
    assert_eq!(watch(&rules(ignored), "scccs"), ".....");
    let eval = "mode = 'loose'\nsecond_opinion.uncertain.at = 0.5\ndebounce = 'eval'";
    assert_eq!(watch(&rules(eval), "scus"), ".?d.");
}

/// What was cleared does not count again, and what was decided is in no doubt again.
#[test]
fn what_is_decided_counts_no_more() {
    let strict = rules("second_opinion.uncertain.at = 0.05");
    let mut watch = Watch::default();
    let mut fires = |letter, clears: bool| {
        let fired = watch.next(strict.debounce, &strict.look(&level(letter))).map(|fired| fired.tokens);
        if clears {
            watch.clear();
        }
        fired
    };
    assert_eq!([fires('u', false), fires('u', true)], [None, Some(2)]);
    assert_eq!([fires('u', false), fires('c', true)], [None, Some(2)]);
    // Safe tokens are uncertain here.
    assert_eq!([fires('s', false), fires('u', false)], [None, Some(2)]);
}

#[test]
fn levels_and_thresholds() {
    use Action::{Flag, Stop};
    use Risk::{Controversial, Unsafe};
    let table = [
        //                                                   Safe  Contr Unsafe
        ("mode = 'strict'", [0.40, 0.35, 0.25], None),
        ("mode = 'strict'", [0.30, 0.40, 0.30], Some((Controversial, Stop))),
        ("mode = 'loose'", [0.30, 0.40, 0.30], None),
        ("mode = 'loose'", [0.30, 0.30, 0.40], Some((Unsafe, Stop))),
        ("mode = { custom = { unsafe = { at = 0.2 } } }", [0.70, 0.05, 0.25], Some((Unsafe, Stop))),
        ("mode = { custom = { unsafe = { at = 0.5 } } }", [0.20, 0.35, 0.45], Some((Controversial, Stop))),
        ("mode = { custom = { controversial = { at = 0.5 } } }", [0.45, 0.30, 0.25], Some((Controversial, Stop))),
        ("mode = { custom = { controversial = { at = 0.6 } } }", [0.45, 0.30, 0.25], None),
        (
            "mode = { custom = { controversial = { action = 'flag' } } }",
            [0.30, 0.40, 0.30],
            Some((Controversial, Flag)),
        ),
        ("mode = { custom = { controversial = { action = 'ignore' } } }", [0.30, 0.40, 0.30], None),
    ];
    for (toml, [safe, controversial, r#unsafe], expected) in table {
        let verdict = verdict(safe, controversial, r#unsafe, 0.9, 0.1);
        let found = rules(toml).judge().find(&verdict).map(|finding| (finding.risk, finding.action));
        assert_eq!(found, expected, "{toml} on {safe}, {controversial}, {}", r#unsafe);
    }
}

#[test]
fn rules_of_a_category() {
    use Action::{Flag, Stop};
    let table = [
        //                                                    Violent PII
        ("", [0.9, 0.1], Some(("Violent", Stop, "answer.strict"))),
        ("categories.Violent.action = 'flag'", [0.9, 0.1], Some(("Violent", Flag, "answer.categories.Violent.strict"))),
        ("categories.Violent.action = 'ignore'", [0.9, 0.1], None),
        ("categories.PII.action = 'flag'", [0.9, 0.1], Some(("Violent", Stop, "answer.strict"))),
        ("categories.PII.mode = 'loose'", [0.1, 0.9], None),
        (
            "mode = 'loose'\ncategories.PII.mode = 'strict'",
            [0.1, 0.9],
            Some(("PII", Stop, "answer.categories.PII.strict")),
        ),
        // PII from 20 % on: an ignored category does not hide it.
        (
            "categories.Violent.action = 'ignore'\ncategories.PII.at = 0.2",
            [0.7, 0.3],
            Some(("PII", Stop, "answer.categories.PII.strict")),
        ),
        ("categories.Violent.action = 'ignore'\ncategories.PII.at = 0.2", [0.9, 0.1], None),
        // Of two, the one with the graver action.
        (
            "categories.Violent.action = 'flag'\ncategories.PII.at = 0.2",
            [0.7, 0.3],
            Some(("PII", Stop, "answer.categories.PII.strict")),
        ),
        ("categories.PII = { at = 0.2, action = 'flag' }", [0.7, 0.3], Some(("Violent", Stop, "answer.strict"))),
    ];
    for (toml, [violent, pii], expected) in table {
        let rules = rules(toml);
        let verdict = verdict(0.2, 0.7, 0.1, violent, pii);
        let found = rules.judge().find(&verdict).map(|finding| {
            let category = verdict.labels().categories()[finding.category as usize].clone();
            (category, finding.action, rules.judge().name("answer", &finding, verdict.labels()))
        });
        let expected = expected.map(|(category, action, rule)| (category.to_owned(), action, rule.to_owned()));
        assert_eq!(found, expected, "{toml} on {violent}, {pii}");
    }
}

#[test]
fn flags_and_stops_of_one_text() {
    let rules = rules("mode = { custom = { controversial = { action = 'flag' } } }");
    let table = [
        ("sccss", "..f.."),
        ("scuss", "..f.."), // together they are worth reporting, but one token is not enough to stop
        ("sccuus", "..f?!."),
        ("cccc", ".f.."),
        ("uucc", "?!.."),
    ];
    for (levels, expected) in table {
        let seen = watch(&rules, levels);
        // A token that is pending for a stop may complete a flag.
        assert_eq!(seen, expected, "{levels}");
    }
}

#[test]
fn what_is_wrong_with_a_policy_is_named() {
    let table = [
        ("[answer]\ndebounce = { consecutive = 0 }", "policy.answer.debounce"),
        ("[thinking]\ndebounce = { window = { hits = 3, of = 2 } }", "policy.thinking.debounce"),
        ("[thinking]\ndebounce = { window = { hits = 3, of = 65 } }", "policy.thinking.debounce"),
        ("[prompt]\nmode = { custom = { unsafe = { at = 1.5 } } }", "policy.prompt.mode.custom.unsafe.at"),
        ("[answer.categories.PII]\nat = 0.0", "policy.answer.categories.PII.at"),
        (
            "[answer.categories.PII]\nmode = { custom = { controversial = { at = -1 } } }",
            "categories.PII.mode.custom.controversial.at",
        ),
        ("[prompt]\ndebounce = { consecutive = 2 }", "debounce"),
        ("[answer]\nmode = 'stern'", "stern"),
        ("[answer.second_opinion]\nuncertain = { at = 0 }", "policy.answer.second_opinion.uncertain.at"),
        ("[thinking.second_opinion]\nuncertain = { at = 1.5 }", "policy.thinking.second_opinion.uncertain.at"),
        ("[answer.second_opinion]\nuncertain = { word = 'report' }", "at"),
        ("[answer.second_opinion]\nviolation = 'confirm'", "confirm"),
        ("[prompt.second_opinion]\nviolation = 'lift'", "second_opinion"),
        ("shadows = true", "shadows"),
    ];
    for (toml, named) in table {
        let error = Policy::from_toml(toml).expect_err(toml).to_string();
        assert!(error.contains(named), "{toml}: {error}");
    }
    let policy = Policy::from_toml("[answer.categories.Spam]\naction = 'flag'").unwrap();
    let verdict = level('s');
    let error = policy.check_categories(verdict.labels(), verdict.labels()).unwrap_err().to_string();
    assert!(error.contains("policy.answer.categories.Spam") && error.contains("Violent, PII"), "{error}");
}

#[test]
fn a_policy_survives_toml() {
    let policy = Policy::from_toml(
        "shadow = true\n[prompt]\nmode = 'loose'\n[answer]\ndebounce = 'eval'\n\
         mode = { custom = { unsafe = { at = 0.25 }, controversial = { action = 'flag' } } }\n\
         categories.PII = { at = 0.5, action = 'ignore' }\n\
         second_opinion = { violation = 'lift', uncertain = { at = 0.25, word = 'report' } }",
    )
    .unwrap();
    assert_eq!(Policy::from_toml(&toml::to_string(&policy).unwrap()).unwrap(), policy);
}
