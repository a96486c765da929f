//! Verdicts against golden vectors of an independent PyTorch reference, see `tests/golden/README.md`.

mod common;

use common::{CHECKPOINTS, bundle, conversations, golden::golden};
use qwenguard::{Activations, CacheConfig, CachePrecision, Call, Config, Guard, Message, PromptCheck, Stream, Verdict};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

fn open(checkpoint: &str, precision: &str, cache: CachePrecision) -> Guard {
    let cache = CacheConfig { precision: cache, mib: 16 };
    Guard::open_with(bundle(checkpoint, precision), &Config { cache, ..Config::default() }).unwrap()
}

/// As [`open`], with the cache of its choice and activations rounded so.
fn open_rounding(checkpoint: &str, precision: &str, activations: Activations) -> Guard {
    let mut config = Config { cache: CacheConfig { mib: 16, ..CacheConfig::default() }, ..Config::default() };
    config.runtime.activations = activations;
    Guard::open_with(bundle(checkpoint, precision), &config).unwrap()
}

/// All verdicts of a conversation: the prompt's, then every answer token's. The answer is pushed in pieces of the sizes
/// that `next` gives.
fn judge(guard: &Guard, messages: &[Message], ids: &[u32], mut next: impl FnMut() -> usize) -> Vec<Verdict> {
    let mut stream: Stream = guard.stream().unwrap();
    let PromptCheck { verdict, .. } = stream.prompt(messages).unwrap();
    let mut verdicts = vec![verdict];
    let mut rest = ids;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(next().min(rest.len()));
        verdicts.extend(stream.push_tokens(piece).unwrap().tokens.into_iter().map(|token| token.verdict));
        rest = later;
    }
    verdicts
}

fn difference(verdict: &Verdict, risk: &[f32], category: &[f32]) -> f32 {
    let risks = verdict.risk_probabilities().map(|(_, p)| p).zip(risk);
    let categories = verdict.category_probabilities().map(|(_, p)| p).zip(category);
    risks.chain(categories).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn largest_difference(a: &[Verdict], b: &[Verdict]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).map(|(a, b)| {
        let risk: Vec<f32> = b.risk_probabilities().map(|(_, p)| p).collect();
        let category: Vec<f32> = b.category_probabilities().map(|(_, p)| p).collect();
        difference(a, &risk, &category)
    });
    pairs.fold(0.0, f32::max)
}

#[test]
fn fp32_agrees_with_pytorch() {
    for checkpoint in CHECKPOINTS {
        let guard = open(checkpoint, "fp32", CachePrecision::Auto);
        let mut worst = 0f32;
        for (conversation, expected) in conversations().iter().zip(golden(checkpoint)) {
            assert_eq!(conversation.id, expected.id);
            let (messages, answer) = conversation.split();
            let ids: Vec<u32> =
                guard.encode(answer.unwrap_or_default()).unwrap().iter().map(|token| token.id).collect();
            assert_eq!(ids, expected.answer_ids, "{checkpoint}, {}: answer ids", expected.id);
            let verdicts = judge(&guard, messages, &ids, || usize::MAX);
            worst = worst.max(difference(&verdicts[0], &expected.prompt.risk, &expected.prompt.category));
            for (row, index) in expected.answer.index.iter().enumerate() {
                let verdict = &verdicts[1 + index];
                let error = difference(verdict, &expected.answer.risk[row], &expected.answer.category[row]);
                assert!(error < 1e-4, "{checkpoint}, {}, token {index}: off by {error}", expected.id);
                worst = worst.max(error);
            }
        }
        assert!(worst < 1e-4, "{checkpoint}: prompt off by {worst}");
        println!("{checkpoint}: largest difference of a probability {worst:.1e}");
    }
}

#[test]
fn how_an_answer_is_pushed_does_not_matter() {
    let mut rng = SmallRng::seed_from_u64(5);
    for (precision, cache) in [("fp32", CachePrecision::Fp32), ("int8", CachePrecision::Int8)] {
        for checkpoint in ["grouped-bf16", "odd-bf16"] {
            let guard = open(checkpoint, precision, cache);
            for (conversation, expected) in conversations().iter().zip(golden(checkpoint)) {
                let (messages, _) = conversation.split();
                let whole = judge(&guard, messages, &expected.answer_ids, || usize::MAX);
                let single = judge(&guard, messages, &expected.answer_ids, || 1);
                let random = judge(&guard, messages, &expected.answer_ids, || rng.random_range(1..20));
                for (name, pieces) in [("one by one", single), ("random pieces", random)] {
                    let off = largest_difference(&whole, &pieces);
                    assert!(off < 1e-5, "{checkpoint} {precision}, {}, {name}: off by {off}", conversation.id);
                }
            }
        }
    }
}

#[test]
fn streams_at_the_same_time_get_what_they_get_alone() {
    let guard = open("multiquery-fp32", "fp32", CachePrecision::Auto);
    let expected = golden("multiquery-fp32");
    let conversations = conversations();
    let alone: Vec<_> = conversations
        .iter()
        .zip(&expected)
        .map(|(conversation, expected)| judge(&guard, conversation.split().0, &expected.answer_ids, || 3))
        .collect();
    std::thread::scope(|scope| {
        for ((conversation, expected), alone) in conversations.iter().zip(&expected).zip(&alone) {
            let guard = &guard;
            scope.spawn(move || {
                let together = judge(guard, conversation.split().0, &expected.answer_ids, || 3);
                let off = largest_difference(alone, &together);
                assert!(off < 1e-5, "{}: off by {off}", conversation.id);
            });
        }
    });
}

/// Company is of all kinds: a lone token, a batch of lone tokens, and one beside a long piece.
#[test]
fn verdicts_have_the_same_bits_alone_and_in_company() {
    let int8 = CHECKPOINTS.map(|checkpoint| (checkpoint, "int8"));
    let both = |kind| [Activations::Exact, Activations::Fast].map(|activations| (kind, activations));
    let kinds = int8.into_iter().chain([("odd-bf16", "int4-zero-points")]).flat_map(both);
    for ((checkpoint, precision), activations) in kinds {
        let guard = open_rounding(checkpoint, precision, activations);
        let expected = golden(checkpoint);
        let conversations = conversations();
        let answers: Vec<&[u32]> = expected.iter().map(|expected| &expected.answer_ids[..]).collect();
        let prompted = || -> Vec<Stream> {
            let streams = conversations.iter().map(|conversation| {
                let mut stream = guard.stream().unwrap();
                stream.prompt(conversation.split().0).unwrap();
                stream
            });
            streams.collect()
        };
        let push = |stream: &mut Stream, ids: &[u32]| -> Vec<Verdict> {
            stream.push_tokens(ids).unwrap().tokens.into_iter().map(|token| token.verdict).collect()
        };
        let alone: Vec<Vec<Verdict>> = prompted()
            .iter_mut()
            .zip(&answers)
            .map(|(stream, answer)| answer.iter().flat_map(|id| push(stream, &[*id])).collect())
            .collect();
        let mut streams = prompted();
        let mut together: Vec<Vec<Verdict>> = vec![Vec::new(); streams.len()];
        for round in 0..answers.iter().map(|answer| answer.len()).max().unwrap() {
            // Every stream has a piece of another length.
            let pieces: Vec<&[u32]> = answers
                .iter()
                .zip(&together)
                .enumerate()
                .map(|(index, (answer, done))| &answer[done.len()..answer.len().min(done.len() + (index + round) % 4)])
                .collect();
            let calls = streams.iter_mut().zip(&pieces).map(|(stream, piece)| (stream, Call::Tokens(piece)));
            for (done, reply) in together.iter_mut().zip(Stream::call_all(calls)) {
                done.extend(reply.unwrap().into_update().unwrap().tokens.into_iter().map(|token| token.verdict));
            }
        }
        for ((expected, alone), together) in expected.iter().zip(&alone).zip(&together) {
            assert_eq!(together.len(), expected.answer_ids.len());
            for (index, (alone, together)) in alone.iter().zip(together).enumerate() {
                assert_eq!(alone, together, "{checkpoint} {precision}, {}, token {index}", expected.id);
            }
        }
    }
}

/// Share of verdicts with the same risk, and of those with the same most probable category.
fn agreement(checkpoint: &str, precision: &str, cache: CachePrecision) -> (f64, f64) {
    let exact = open(checkpoint, "fp32", CachePrecision::Fp32);
    let coarse = open(checkpoint, precision, cache);
    let (mut risks, mut categories, mut all) = (0, 0, 0);
    for (conversation, expected) in conversations().iter().zip(golden(checkpoint)) {
        let (messages, _) = conversation.split();
        let a = judge(&exact, messages, &expected.answer_ids, || usize::MAX);
        let b = judge(&coarse, messages, &expected.answer_ids, || usize::MAX);
        for (a, b) in a.iter().zip(&b) {
            all += 1;
            risks += usize::from(a.risk() == b.risk());
            categories += usize::from(top_category(a) == top_category(b));
        }
    }
    (f64::from(risks as u32) / f64::from(all), f64::from(categories as u32) / f64::from(all))
}

fn top_category(verdict: &Verdict) -> String {
    // Of equal ones the first, as in the library.
    let top = verdict.category_probabilities().reduce(|best, next| if next.1 > best.1 { next } else { best });
    top.map(|(category, _)| category.to_owned()).unwrap_or_default()
}

/// Random weights give many nearly equal probabilities, so that these shares are lower than a trained model's.
#[test]
fn coarser_numbers_keep_the_labels() {
    let cases = [
        ("fp32", CachePrecision::Int8, 0.985, &CHECKPOINTS[..]),
        ("int8", CachePrecision::Int8, 0.975, &CHECKPOINTS[..]),
        ("int4", CachePrecision::Int8, 0.6, &CHECKPOINTS[..]),
        ("int4-zero-points", CachePrecision::Int8, 0.6, &["odd-bf16"][..]),
    ];
    for (precision, cache, least, checkpoints) in cases {
        for &checkpoint in checkpoints {
            let (risk, category) = agreement(checkpoint, precision, cache);
            println!("{checkpoint}, {precision} weights, {cache:?} cache: risk {risk:.4}, category {category:.4}");
            let mean = (risk + category) / 2.0;
            assert!(mean >= least, "{checkpoint}, {precision} weights, {cache:?} cache: {mean:.4} of labels");
        }
    }
}
