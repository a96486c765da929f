//! Random texts in random pieces get the verdicts of the whole, to the bit.

mod common;

use common::{
    Known, bundle,
    random_text::{random_split, random_text},
};
use qwenguard::{Config, Guard, Message, Verdict};
use rand::{SeedableRng, rngs::StdRng};

fn bits(verdicts: &[Verdict]) -> Vec<u32> {
    let all = verdicts.iter().flat_map(|verdict| {
        let categories = verdict.category_probabilities().map(|(_, p)| p);
        verdict.risk_probabilities().map(|(_, p)| p).chain(categories).map(f32::to_bits)
    });
    all.collect()
}

fn check(guard: &Guard, cases: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut prompted = guard.stream().unwrap();
    prompted.prompt(&[Message::user("Tell me something.")]).unwrap();
    let mut tokens = 0;
    for _ in 0..cases {
        let text = random_text(&mut random);
        let answer = |pieces: &[usize]| {
            let mut stream = prompted.fork().unwrap();
            let mut known = Known::default();
            let mut rest = text.as_bytes();
            for piece in pieces {
                let (piece, later) = rest.split_at(*piece);
                known.take(stream.push_text(piece).unwrap());
                rest = later;
            }
            known.take(stream.finish().unwrap());
            known
        };
        let split = random_split(&mut random, text.len());
        // Shown if a check within fails.
        println!("{text:?} in {split:?}");
        let whole = answer(&[text.len()]);
        let pieces = answer(&split);
        let ids = |known: &Known| known.tokens.values().map(|token| token.token_id).collect::<Vec<_>>();
        assert_eq!(ids(&whole), ids(&pieces));
        assert_eq!(bits(&whole.verdicts()), bits(&pieces.verdicts()));
        assert_eq!(whole.violation, pieces.violation);
        assert_eq!(whole.last.unwrap().horizon, pieces.last.unwrap().horizon);
        tokens += whole.tokens.len();
    }
    assert!(tokens > cases * 4, "only {tokens} tokens in {cases} texts");
}

#[test]
fn any_split_gives_the_verdicts_of_the_whole() {
    check(&Guard::nano(&Config::default()).unwrap(), 400, 21);
}

#[test]
fn any_split_gives_the_verdicts_of_the_whole_with_qwens_tokenizer() {
    let folder = bundle("qwen3", "tiny");
    check(&Guard::open(folder).unwrap(), 400, 22);
}
