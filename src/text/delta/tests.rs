use std::{path::Path, sync::OnceLock};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{checked::Checked, *};
use crate::text::{
    pipeline::starts_chunk,
    random_text::{BASES, MARKS, SIGNS, SPACES, WORDS, random_split, random_text},
};

/// A generated tokenizer of a few hundred tokens; its merges are few, so that most bytes stay tokens of their own.
fn small() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| load("tests/golden/checkpoints/odd-bf16/tokenizer.json"))
}

/// The tokenizer of the Qwen3 family.
fn qwen() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| load("target/test-data/qwen3/tokenizer.json"))
}

fn load(path: &str) -> Tokenizer {
    let json = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    let json = json.unwrap_or_else(|error| panic!("{path}: {error}; run `make test-data`"));
    Tokenizer::new(&json, 1 << 18).unwrap()
}

/// Every promise for one text that comes in pieces of these lengths.
fn check(tokenizer: &'static Tokenizer, text: &str, lengths: &[usize], tail: usize) {
    let mut checked = Checked::new(tokenizer, tail);
    let mut rest = text.as_bytes();
    for (push, length) in lengths.iter().enumerate() {
        let (delta, after) = rest.split_at(*length);
        checked.push(delta);
        if push % 4 == 0 {
            assert_eq!(checked.delta.tokens(), checked.whole(), "{text:?} in {lengths:?}");
        }
        rest = after;
    }
    checked.finish();
    assert_eq!(checked.delta.tokens(), checked.whole(), "{text:?} in {lengths:?}");
    if tail == TAIL && text.len() <= TAIL {
        let ids: Vec<u32> = checked.delta.tokens().iter().map(|token| token.id).collect();
        assert_eq!(ids, tokenizer.ids(text).unwrap(), "{text:?}");
    }
}

fn check_random(tokenizer: &'static Tokenizer, cases: usize, seed: u64, tail: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..cases {
        let text = random_text(&mut random);
        let lengths = random_split(&mut random, text.len());
        check(tokenizer, &text, &lengths, tail);
    }
}

/// How many cases: more for a long search.
fn cases(cases: usize) -> usize {
    let times = std::env::var("QWENGUARD_TEST_CASES").map_or(1, |times| times.parse::<usize>().unwrap());
    cases * times
}

#[test]
fn any_split_gives_the_tokens_of_the_whole_text() {
    check_random(small(), cases(10_000), 1, TAIL);
}

#[test]
fn any_split_gives_the_tokens_of_the_whole_text_with_qwen() {
    check_random(qwen(), cases(10_000), 2, TAIL);
}

/// Long texts that need no forced cut are those of the tokenizer itself, too.
#[test]
fn long_texts_are_tokenized_as_a_whole() {
    let mut random = StdRng::seed_from_u64(9);
    for tokenizer in [small(), qwen()] {
        for _ in 0..cases(10) {
            let mut text = String::new();
            for _ in 0..200 {
                let part = random_text(&mut random);
                text.push_str(&part[..part.floor_char_boundary(TAIL / 2)]);
                text.push_str(". ");
            }
            let mut checked = Checked::new(tokenizer, TAIL);
            while checked.bytes < text.len() {
                let length = random.random_range(1..4 * TAIL).min(text.len() - checked.bytes);
                checked.push(&text.as_bytes()[checked.bytes..checked.bytes + length]);
            }
            checked.finish();
            let ids: Vec<u32> = checked.delta.tokens().iter().map(|token| token.id).collect();
            assert!(ids == tokenizer.ids(&text).unwrap(), "{text:?}");
        }
    }
}

#[test]
fn any_split_of_a_text_with_forced_cuts_is_cut_at_the_same_places() {
    check_random(small(), cases(2_000), 3, 48);
    check_random(qwen(), cases(1_000), 4, 56);
    check_random(qwen(), cases(1_000), 5, 80);
}

/// Texts of few characters have long stretches without cuts.
#[test]
fn any_split_of_a_dull_text_is_cut_at_the_same_places() {
    let mut random = StdRng::seed_from_u64(6);
    for tokenizer in [small(), qwen()] {
        for _ in 0..cases(500) {
            let alphabet: Vec<&str> = (0..random.random_range(1..4))
                .map(|_| {
                    *[WORDS, MARKS, SPACES, SIGNS, BASES].choose(&mut random).unwrap().choose(&mut random).unwrap()
                })
                .collect();
            let text: String =
                (0..random.random_range(10..80)).map(|_| *alphabet.choose(&mut random).unwrap()).collect();
            let lengths = random_split(&mut random, text.len());
            check(tokenizer, &text, &lengths, *[48, 64, 100].choose(&mut random).unwrap());
        }
    }
}

#[test]
fn every_place_to_split_a_text_gives_the_same() {
    let text = "I'll say: “naïve cafe\u{301}” 你好世界。  \r\n\n<think>they're 12</think> 👩‍👩‍👧 \u{1112}\u{1161}\u{11ab} <|im_end|>  x";
    for tokenizer in [small(), qwen()] {
        for first in 0..=text.len() {
            check(tokenizer, text, &[first, text.len() - first], TAIL);
        }
        check(tokenizer, text, &vec![1; text.len()], TAIL);
    }
}

/// One of each kind of character that a step of the tokenizer treats in its own way.
const ALPHABET: &[&str] = &[
    "a", "s", "l", "7", " ", "\n", "\r", "\t", "'", "!", "\u{301}", "\u{338}", "好", "<", "<thi", "nk>", "😀",
    "\u{200d}",
];

/// Every short text over an alphabet: what is stable of it stays in each of its continuations, and so do the tokens from
/// its cut on, tokenized alone.
struct Exhaustive<'a> {
    tokenizer: &'static Tokenizer,
    alphabet: &'a [&'a str],
    /// For each beginning of the text: its stable tokens, and its cut.
    path: Vec<(Vec<TextToken>, Cut)>,
    texts: usize,
}

impl Exhaustive<'_> {
    fn extend(&mut self, text: &mut String, left: usize) {
        let tokens = scan::whole(self.tokenizer, text).unwrap();
        let scan = scan::open(self.tokenizer, text).unwrap();
        assert_eq!(scan.tokens, tokens, "{text:?}");
        self.path.push((tokens[..scan.stable].to_vec(), scan.cut));
        for (stable, cut) in &self.path {
            assert!(tokens.starts_with(stable), "{text:?}: {tokens:?} does not start with {stable:?}");
            let alone = scan::whole(self.tokenizer, &text[cut.at..]).unwrap();
            assert!(
                tokens[cut.tokens..].iter().map(|token| token.id).eq(alone.iter().map(|token| token.id)),
                "{text:?}"
            );
        }
        self.texts += 1;
        if left > 0 {
            let length = text.len();
            for next in self.alphabet {
                text.push_str(next);
                self.extend(text, left - 1);
                text.truncate(length);
            }
        }
        self.path.pop();
    }

    fn run(tokenizer: &'static Tokenizer, alphabet: &[&str], length: usize) {
        let mut exhaustive = Exhaustive { tokenizer, alphabet, path: Vec::new(), texts: 0 };
        exhaustive.extend(&mut String::new(), length);
        println!("{} texts", exhaustive.texts);
    }
}

#[test]
fn what_is_stable_stays_in_all_short_texts() {
    let length = if cfg!(debug_assertions) { 3 } else { 4 };
    Exhaustive::run(small(), ALPHABET, length);
    Exhaustive::run(qwen(), ALPHABET, length);
}

#[test]
fn what_is_stable_stays_in_longer_texts_of_few_kinds() {
    let length = if cfg!(debug_assertions) { 5 } else { 7 };
    for alphabet in [
        [" ", "\n", "a", "!"],
        ["'", "r", "e", " "],
        ["你", "好", "'", "们"],
        ["<think>", "<", " ", "nk>"],
        ["e", "\u{301}", "\u{323}", " "],
        ["\u{1100}", "\u{1161}", "\u{11a8}", "\u{ac00}"],
        ["か", "\u{3099}", "、", "漢"],
    ] {
        Exhaustive::run(qwen(), &alphabet, length);
    }
}

fn reason(error: Error) -> String {
    match error {
        Error::Argument { reason, .. } => reason,
        error => panic!("{error}"),
    }
}

#[test]
fn a_split_character_waits_for_its_rest() {
    let mut checked = Checked::new(small(), TAIL);
    checked.push("ok 😀".as_bytes().split_at(5).0);
    assert_eq!(checked.delta.text, "ok ");
    let error = checked.delta.end_with(small(), &[], "").unwrap_err();
    assert_eq!(reason(error), "it ends within the character that starts at byte 3");
    checked.push(&[]);
    checked.push(&"😀".as_bytes()[2..3]);
    checked.push(&"😀".as_bytes()[3..]);
    checked.finish();
    assert_eq!(checked.delta.text, "ok 😀");
}

#[test]
fn bytes_that_are_not_utf8_change_nothing() {
    let mut checked = Checked::new(small(), TAIL);
    checked.push("añ".as_bytes().split_at(2).0);
    for (wrong, at) in
        [(&b"b"[..], 1), (b"\xb1ok\xff", 5), (b"\xb1\xed\xa0\x80", 3), (b"\xb1\xc0\x80", 3), (b"\xb1\xf5", 3)]
    {
        let before = checked.delta.clone();
        let error = checked.delta.push(small(), wrong).unwrap_err();
        assert_eq!(reason(error), format!("it is not UTF-8 at byte {at}"));
        assert_eq!((&before.text, &before.carry), (&checked.delta.text, &checked.delta.carry));
    }
    checked.push(b"\xb1o");
    checked.finish();
    assert_eq!(checked.delta.text, "año");
}

#[test]
fn offsets_are_those_of_the_callers_text() {
    let bytes = |text: &str| -> Vec<_> { encode(qwen(), text).unwrap().into_iter().map(|token| token.bytes).collect() };
    // Two characters become one, the end of a token.
    assert_eq!(bytes("cafe\u{301} x"), [0..2, 2..6, 6..8]);
    // Three letters become one syllable; a Kelvin sign becomes a K.
    assert_eq!(bytes("\u{1112}\u{1161}\u{11ab}!"), [0..9, 9..10]);
    assert_eq!(bytes("5\u{212a}."), [0..1, 1..4, 4..5]);
    // Tokens within a character that does not change have their own bytes.
    let tokens = encode(qwen(), "\u{13000}").unwrap();
    assert!(tokens.len() > 1);
    assert!(tokens.iter().zip(&tokens[1..]).all(|(one, next)| one.bytes.end == next.bytes.start));
}

#[test]
fn chinese_becomes_stable_before_its_clause_ends() {
    let text = "今天天气很好我们一起去公园散步然后回家吃饭";
    let mut checked = Checked::new(qwen(), TAIL);
    checked.push(text.as_bytes());
    let TextToken { bytes, .. } = &checked.delta.tokens()[checked.delta.stable() - 1];
    assert!(text.len() - bytes.end <= 12, "{bytes:?}");
}

/// A text with more tokens than it may have is not tokenized to its end, and one that fits is never refused.
#[test]
fn tokenizing_stops_at_the_limit() {
    let mut random = StdRng::seed_from_u64(11);
    for tokenizer in [small(), qwen()] {
        for tail in [TAIL, 64] {
            for _ in 0..cases(300) {
                let text = random_text(&mut random).repeat(random.random_range(1..40));
                let tokens = stretch(tokenizer, &text, tail, true, usize::MAX).unwrap().unwrap().tokens.len();
                let most = random.random_range(0..tokens + 4);
                let limited = DeltaTokenizer { most, ..DeltaTokenizer::with_tail(tail) };
                match limited.end_with(tokenizer, text.as_bytes(), "") {
                    // No token is less than a byte, but a character may be many: NFC decomposes some.
                    Ok(edit) => assert!(edit.append.len() <= most + 4 * tail, "{} of {most}", edit.append.len()),
                    Err(Error::ContextFull { used: 0, wanted, limit }) => {
                        assert!(limit == most && (most + 1..=tokens).contains(&wanted), "{wanted} of {most}, {tokens}");
                        assert!(wanted <= most + 4 * tail, "{wanted} of {most}: it did not stop");
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
    let limited = DeltaTokenizer::new(qwen(), 7, 100).unwrap();
    let error = limited.push(qwen(), "one two ".repeat(100_000).as_bytes()).unwrap_err();
    assert!(matches!(error, Error::ContextFull { wanted: 101..1_200, limit: 100, .. }), "{error}");
}

#[test]
fn truncating_forgets_what_came_after() {
    let mut random = StdRng::seed_from_u64(7);
    for tokenizer in [small(), qwen()] {
        for tail in [TAIL, 64] {
            for _ in 0..cases(1_000) {
                check_truncation(&mut random, tokenizer, tail);
            }
        }
    }
}

fn check_truncation(random: &mut StdRng, tokenizer: &'static Tokenizer, tail: usize) {
    let mut checked = Checked::new(tokenizer, tail);
    let text = random_text(random);
    for length in random_split(random, text.len()) {
        checked.push(&text.as_bytes()[checked.bytes..checked.bytes + length]);
    }
    let length = text.floor_char_boundary(random.random_range(0..=text.len()));
    let edit = checked.delta.truncate(tokenizer, length).unwrap();
    checked.delta.apply(edit);
    checked.bytes = length;
    assert_eq!(checked.delta.text, text[..length]);
    assert_eq!(checked.delta.tokens(), checked.whole());
    let more = random_text(random);
    checked.push(more.as_bytes());
    checked.finish();
    assert_eq!(checked.delta.tokens(), checked.whole(), "{text:?} cut at {length}, then {more:?}");
}

#[test]
fn truncating_is_between_characters() {
    let mut checked = Checked::new(small(), TAIL);
    checked.push("aé".as_bytes());
    for (length, said) in [(2, "not between characters of the 3 bytes"), (4, "4 is more than the 3 bytes")] {
        assert!(reason(checked.delta.truncate(small(), length).unwrap_err()).contains(said));
    }
}

#[test]
fn a_text_goes_on_anew_after_its_end() {
    let mut checked = Checked::new(qwen(), TAIL);
    for part in ["hel", "lo"] {
        checked.push(part.as_bytes());
        checked.finish();
    }
    let ids: Vec<u32> = checked.delta.tokens().iter().map(|token| token.id).collect();
    assert_eq!(ids, [qwen().ids("hel").unwrap(), qwen().ids("lo").unwrap()].concat());
}

/// The megabyte of one letter, in bulk and letter by letter.
#[test]
fn a_text_without_boundaries_is_bounded() {
    let letters =
        [("a", 1 << 20), ("\u{301}", 1 << 16), (" ", 1 << 16), ("!", 1 << 16), ("你", 1 << 16), ("\n", 1 << 16)];
    for (letter, length) in letters {
        let text = letter.repeat(length / letter.len());
        let mut checked = DeltaTokenizer::with_tail(super::TAIL);
        for delta in text.as_bytes().chunks(1 << 14) {
            checked.apply(checked.push(qwen(), delta).unwrap());
        }
        checked.apply(checked.end_with(qwen(), &[], "").unwrap());
        assert_eq!(checked.tokens(), encode(qwen(), &text).unwrap());
        let count = 3 * TAIL / letter.len();
        let mut checked = Checked::new(qwen(), TAIL);
        for _ in 0..count {
            checked.push(letter.as_bytes());
        }
        checked.finish();
        assert_eq!(checked.delta.tokens(), checked.whole());
    }
}

#[test]
fn white_space_is_what_the_expression_takes_for_it() {
    let split = tokenizers::utils::SysRegex::new(r"\s").unwrap();
    let all: String = (0..0x11_0000).filter_map(char::from_u32).collect();
    let found: Vec<&str> = split.find_iter(&all).map(|(start, end)| &all[start..end]).collect();
    let expected: Vec<String> = all.chars().filter(|c| c.is_whitespace()).map(String::from).collect();
    assert_eq!(found, expected);
}

/// What the expression takes a character for does not change when it composes with those that follow it.
#[test]
fn composing_keeps_the_kind_of_a_character() {
    use unicode_normalization::UnicodeNormalization;
    let patterns = [r"\p{L}", r"\p{N}", r"\s", r"[\r\n]"].map(|kind| tokenizers::utils::SysRegex::new(kind).unwrap());
    let kind = |c: char| patterns.iter().position(|kind| kind.find_iter(&c.to_string()).next().is_some());
    for character in (0x80..0x11_0000).filter_map(char::from_u32) {
        let parts: String = std::iter::once(character).nfd().collect();
        let Some(first) = parts.chars().next().filter(|first| *first != character) else { continue };
        if starts_chunk(character) && tokenizer_knows(character) {
            assert_eq!(kind(character), kind(first), "{character:?}");
            assert!(!('\u{3400}'..='\u{9FFF}').contains(&first) || parts.chars().count() == 1);
        }
    }
}

/// Whether the tokenizer's older Unicode tables have a character's decomposition.
fn tokenizer_knows(character: char) -> bool {
    let text = format!("{character}\u{300}");
    let mut normalized = tokenizers::NormalizedString::from(&*text);
    normalized.nfd();
    normalized.get() != text
}

#[test]
fn normalising_by_chunks_is_normalising_the_whole() {
    let mut random = StdRng::seed_from_u64(8);
    let special: Vec<char> = (0..0x11_0000)
        .filter_map(char::from_u32)
        .filter(|c| !starts_chunk(*c) || !unicode_normalization::is_nfc(&c.to_string()))
        .collect();
    let bases: Vec<char> = BASES.iter().flat_map(|base| base.chars()).collect();
    for _ in 0..cases(2_000) {
        let text: String = (0..64)
            .filter_map(|_| match random.random_range(0..8) {
                0..4 => special.choose(&mut random).copied(),
                4..6 => bases.choose(&mut random).copied(),
                _ => char::from_u32(random.next_u32() % 0x11_0000),
            })
            .collect();
        check_normalisation(&text);
    }
    // Every character after one that composes with much.
    for base in ["a", "\u{1100}", "\u{ac00}", "\u{9c7}", "か", "<"] {
        let text: String =
            (0..0x11_0000).filter_map(char::from_u32).flat_map(|c| [base.to_string(), c.to_string()]).collect();
        check_normalisation(&text);
    }
}

fn check_normalisation(text: &str) {
    let mut whole = tokenizers::NormalizedString::from(text);
    whole.nfc();
    let normalized = small().pipeline().normalize(text);
    assert!(normalized.text == whole.get(), "{:?}", text.chars().take(64).collect::<String>());
}
