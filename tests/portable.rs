//! Guards on the portable graphs, against golden vectors of PyTorch (tests/golden/README.md) and against the paged graph
//! of the same weights.
//!
//! On the CPU, or on the provider that QWENGUARD_TEST_PROVIDER names: there with fewer texts and in fp16 alone, because what is
//! proved is that it computes the same graph, and in software each run of a graph of fixed shapes costs as much as its largest.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    CHECKPOINTS, Conversation, GEN_CHECKPOINTS, conversations,
    golden::{Expected, golden},
    read_conversations, root,
};
use qwenguard::{AnnotateOptions, Annotation, Call, Config, Error, Guard, Message, Stream, Verdict};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// How far a probability may be from the reference's.
const TOLERANCES: [(&str, f32); 2] = [("fp32", 1e-4), ("fp16", 2e-2)];

/// Whether it is another provider than the CPU.
fn is_elsewhere() -> bool {
    std::env::var("QWENGUARD_TEST_PROVIDER").is_ok_and(|name| name != "cpu")
}

/// Those precisions that are tested, with their tolerances.
fn tolerances() -> &'static [(&'static str, f32)] {
    if is_elsewhere() { &TOLERANCES[1..] } else { &TOLERANCES }
}

/// Conversations, of which a few will do on another provider.
fn some(mut conversations: Vec<Conversation>) -> Vec<Conversation> {
    let mut place = 0;
    conversations.retain(|_| {
        place += 1;
        !is_elsewhere() || place % 5 == 1
    });
    conversations
}

fn folder(checkpoint: &str, precision: &str) -> PathBuf {
    let folder = root().join(format!("target/golden-portable/{checkpoint}-{precision}"));
    assert!(folder.join("guard.toml").is_file(), "{} is missing: run `make test-data`", folder.display());
    folder
}

/// The configuration, with further settings.
fn config(more: &str) -> Config {
    let provider = std::env::var("QWENGUARD_TEST_PROVIDER").unwrap_or("cpu".into());
    Config::from_toml(&format!("{more}\n[runtime]\ngraph = \"portable\"\nprovider = {provider:?}")).unwrap()
}

fn open(folder: &Path, more: &str) -> Guard {
    Guard::open_with(folder, &config(more)).unwrap()
}

fn paged(folder: &Path) -> Guard {
    Guard::open_with(folder, &Config::from_toml("cache.mib = 64").unwrap()).unwrap()
}

/// A copy of a bundle with those variants that pass.
fn with_variants(checkpoint: &str, precision: &str, keep: impl Fn(&toml::Table) -> bool) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder(checkpoint, precision)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    edit(copy.path(), |manifest| {
        let variants = manifest["graphs"]["portable"]["variants"].as_array_mut().unwrap();
        variants.retain(|variant| keep(variant.as_table().unwrap()));
        assert!(!variants.is_empty());
    });
    copy
}

fn edit(folder: &Path, edit: impl FnOnce(&mut toml::Table)) {
    let path = folder.join("guard.toml");
    let mut manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    edit(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

/// All verdicts of a conversation: the prompt's, then every answer token's, pushed in pieces of the sizes of `next`.
fn judge(guard: &Guard, messages: &[Message], ids: &[u32], mut next: impl FnMut() -> usize) -> Vec<Verdict> {
    let mut stream = guard.stream().unwrap();
    let mut verdicts = vec![stream.prompt(messages).unwrap().verdict];
    let mut rest = ids;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(next().min(rest.len()));
        verdicts.extend(push(&mut stream, piece));
        rest = later;
    }
    verdicts
}

fn push(stream: &mut Stream, ids: &[u32]) -> Vec<Verdict> {
    stream.push_tokens(ids).unwrap().tokens.into_iter().map(|token| token.verdict).collect()
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

/// Which of several probabilities is the largest.
fn largest(probabilities: impl Iterator<Item = f32>) -> Option<usize> {
    probabilities.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(index, _)| index)
}

/// Differences of probabilities and of labels.
#[derive(Default)]
struct Off {
    worst: f32,
    same: usize,
    all: usize,
}

impl Off {
    fn take(&mut self, verdict: &Verdict, risk: &[f32], category: &[f32]) {
        self.worst = self.worst.max(difference(verdict, risk, category));
        let pairs = [
            (largest(verdict.risk_probabilities().map(|(_, p)| p)), largest(risk.iter().copied())),
            (largest(verdict.category_probabilities().map(|(_, p)| p)), largest(category.iter().copied())),
        ];
        self.same += pairs.iter().filter(|(a, b)| a == b).count();
        self.all += pairs.len();
    }
}

#[test]
fn verdicts_agree_with_pytorch() {
    let mut rng = SmallRng::seed_from_u64(3);
    for checkpoint in CHECKPOINTS {
        for (precision, tolerance) in tolerances().iter().copied() {
            let guard = open(&folder(checkpoint, precision), "cache.mib = 64");
            assert_eq!((&*guard.info().weights, &*guard.info().cache), (precision, precision));
            let mut off = Off::default();
            let expected = golden(checkpoint);
            for conversation in &some(conversations()) {
                let expected = expected.iter().find(|expected| expected.id == conversation.id).unwrap();
                let messages = conversation.split().0;
                let verdicts = judge(&guard, messages, &expected.answer_ids, || rng.random_range(1..90));
                off.take(&verdicts[0], &expected.prompt.risk, &expected.prompt.category);
                for (row, index) in expected.answer.index.iter().enumerate() {
                    off.take(&verdicts[1 + index], &expected.answer.risk[row], &expected.answer.category[row]);
                }
                assert!(off.worst < tolerance, "{checkpoint} {precision}, {}: off by {}", expected.id, off.worst);
            }
            let Off { worst, same, all } = off;
            println!("{checkpoint} {precision}: largest difference {worst:.1e}, {same} of {all} labels");
            assert!(same * 100 >= all * 99, "{checkpoint} {precision}: {same} of {all} labels");
        }
    }
}

/// By graphs for one stream and for several, whoever writes the cache.
#[test]
fn streams_at_the_same_time_get_what_they_get_alone() {
    let expected = golden("grouped-bf16");
    let conversations = conversations();
    let reference = paged(&folder("grouped-bf16", "fp32"));
    let alone: Vec<Vec<Verdict>> = conversations
        .iter()
        .zip(&expected)
        .map(|(conversation, expected)| judge(&reference, conversation.split().0, &expected.answer_ids, || usize::MAX))
        .collect();
    for append in ["rows", "scatter"] {
        for slots in [1, 3] {
            let bundle = with_variants("grouped-bf16", "fp32", |variant| {
                variant["append"].as_str() == Some(append) && variant["slots"].as_integer() == Some(slots)
            });
            let guard = open(bundle.path(), "cache.mib = 256");
            together(&guard, &conversations, &expected, &alone);
        }
    }
}

fn together(guard: &Guard, conversations: &[Conversation], expected: &[Expected], alone: &[Vec<Verdict>]) {
    let mut streams: Vec<Stream> = conversations.iter().map(|_| guard.stream().unwrap()).collect();
    let calls = streams.iter_mut().zip(conversations).map(|(stream, own)| (stream, Call::Prompt(own.split().0)));
    let prompts = Stream::call_all(calls).into_iter().map(|reply| reply.unwrap().into_prompt().unwrap().verdict);
    let mut verdicts: Vec<Vec<Verdict>> = prompts.map(|verdict| vec![verdict]).collect();
    let longest = expected.iter().map(|expected| expected.answer_ids.len()).max().unwrap();
    for round in 0..longest {
        // Every stream has a piece of another length.
        let pieces: Vec<&[u32]> = expected
            .iter()
            .zip(&verdicts)
            .enumerate()
            .map(|(index, (expected, done))| {
                let (ids, done) = (&expected.answer_ids, done.len() - 1);
                &ids[done..ids.len().min(done + (index + round) % 40)]
            })
            .collect();
        if expected.iter().zip(&verdicts).all(|(expected, done)| done.len() > expected.answer_ids.len()) {
            break;
        }
        let calls = streams.iter_mut().zip(&pieces).map(|(stream, piece)| (stream, Call::Tokens(piece)));
        for (done, reply) in verdicts.iter_mut().zip(Stream::call_all(calls)) {
            done.extend(reply.unwrap().into_update().unwrap().tokens.into_iter().map(|token| token.verdict));
        }
    }
    for ((expected, alone), together) in expected.iter().zip(alone).zip(&verdicts) {
        let off = largest_difference(alone, together);
        assert!(off < 1e-4, "{}: off by {off}", expected.id);
    }
}

/// A slot is a whole context: whoever loses it is computed again as a whole.
#[test]
fn streams_that_lose_their_slots_to_each_other_go_on() {
    let expected = golden("grouped-bf16");
    let conversations = conversations();
    let bundle = folder("grouped-bf16", "fp32");
    let reference = paged(&bundle);
    for (append, mib) in [("rows", 7), ("scatter", 13)] {
        let bundle = with_variants("grouped-bf16", "fp32", |variant| variant["append"].as_str() == Some(append));
        let guard = open(bundle.path(), &format!("cache.mib = {mib}"));
        let mut streams: Vec<Stream> = (0..6).map(|_| guard.stream().unwrap()).collect();
        let mut verdicts: Vec<Vec<Verdict>> = Vec::new();
        for (stream, conversation) in streams.iter_mut().zip(&conversations) {
            verdicts.push(vec![stream.prompt(conversation.split().0).unwrap().verdict]);
        }
        for round in 0..3 {
            for ((stream, expected), verdicts) in streams.iter_mut().zip(&expected).zip(&mut verdicts) {
                let ids = expected.answer_ids.iter().skip(4 * round).take(4).copied().collect::<Vec<_>>();
                verdicts.extend(push(stream, &ids));
            }
        }
        assert!(guard.stats().evictions > 0, "nothing was evicted: the test is too easy");
        for ((conversation, expected), verdicts) in conversations.iter().zip(&expected).zip(&verdicts) {
            let ids = &expected.answer_ids[..verdicts.len() - 1];
            let off = largest_difference(&judge(&reference, conversation.split().0, ids, || usize::MAX), verdicts);
            assert!(off < 1e-4, "{append}, {}: off by {off}", expected.id);
        }
    }
}

/// Forks, truncations, turns and prompts that are given again, past the smaller context and back.
#[test]
fn a_conversation_goes_back_and_forth_as_on_the_paged_graph() {
    let bundle = folder("deep-untied-bf16", "fp32");
    let long = "The kettle is on the stove, and the cat sleeps beside it. ".repeat(12);
    let play = |guard: &Guard| {
        let mut verdicts = Vec::new();
        let mut stream = guard.stream().unwrap();
        verdicts.push(stream.prompt(&[Message::user("What is in the kitchen?")]).unwrap().verdict);
        let ids: Vec<u32> = guard.encode(&long).unwrap().iter().map(|token| token.id).collect();
        verdicts.extend(push(&mut stream, &ids));
        let mut fork = stream.fork().unwrap();
        verdicts.extend(push(&mut fork, &ids[..30]));
        stream.truncate_tokens(10).unwrap();
        verdicts.extend(push(&mut stream, &ids[50..90]));
        verdicts.extend(push(&mut fork, &ids[..5]));
        stream.finish().unwrap();
        verdicts.push(stream.next_turn(&[Message::user("And in the garden?")]).unwrap().verdict);
        verdicts.extend(push(&mut stream, &ids[..7]));
        verdicts.push(fork.prompt(&[Message::user("Nothing of that.")]).unwrap().verdict);
        verdicts.extend(push(&mut fork, &ids[3..8]));
        verdicts
    };
    let expected = play(&paged(&bundle));
    for append in ["rows", "scatter"] {
        let bundle = with_variants("deep-untied-bf16", "fp32", |variant| variant["append"].as_str() == Some(append));
        let off = largest_difference(&expected, &play(&open(bundle.path(), "cache.mib = 64")));
        assert!(off < 1e-4, "{append}: off by {off}");
    }
}

/// The context is that of the largest graph, less the place for padding where the graph writes the cache.
#[test]
fn a_stream_is_no_longer_than_its_slot() {
    for (append, context) in [("rows", 128), ("scatter", 127)] {
        let bundle = with_variants("grouped-bf16", "fp32", |variant| {
            variant["append"].as_str() == Some(append) && variant["context"].as_integer() == Some(128)
        });
        let guard = open(bundle.path(), "cache.mib = 64");
        assert_eq!(guard.info().context, context);
        let mut stream = guard.stream().unwrap();
        stream.prompt(&[Message::user("Hello")]).unwrap();
        // With what the template has before it.
        stream.push_tokens(&[5]).unwrap();
        let room = context - stream.context_used();
        let error = stream.push_tokens(&vec![5; room + 1]).unwrap_err();
        assert!(matches!(error, Error::ContextFull { limit, .. } if limit == context), "{error}");
        stream.push_tokens(&vec![5; room]).unwrap();
        assert_eq!(stream.context_used(), context);
        // In views it goes on.
        let guard = open(bundle.path(), "cache.mib = 64\n[engine]\noverflow = \"restart\"");
        let mut stream = guard.stream().unwrap();
        stream.prompt(&[Message::user("Hello")]).unwrap();
        assert_eq!(push(&mut stream, &vec![5; 3 * context]).len(), 3 * context);
    }
}

fn annotations(guard: &Guard, conversations: &[Conversation]) -> Vec<Annotation> {
    let all = conversations.iter().map(|conversation| &*conversation.messages);
    guard.annotate_all(all, &AnnotateOptions::default()).into_iter().map(Result::unwrap).collect()
}

#[test]
fn annotations_agree_with_the_paged_graph() {
    let conversations = some(read_conversations("tests/golden/gen/conversations.jsonl"));
    for checkpoint in GEN_CHECKPOINTS {
        for (precision, tolerance) in tolerances().iter().copied() {
            let bundle = folder(checkpoint, precision);
            let expected = annotations(&paged(&bundle), &conversations);
            let found = annotations(&open(&bundle, "cache.mib = 64"), &conversations);
            let mut same = 0;
            for ((conversation, expected), found) in conversations.iter().zip(&expected).zip(&found) {
                let pairs = expected.risk_probabilities.iter().zip(&found.risk_probabilities);
                let off = pairs.map(|(a, b)| (a.1 - b.1).abs()).fold(0.0, f32::max);
                assert!(off < tolerance, "{checkpoint} {precision}, {}: off by {off}", conversation.id);
                same += usize::from((&expected.answer, expected.risk) == (&found.answer, found.risk));
            }
            let all = conversations.len();
            println!("{checkpoint} {precision}: {same} of {all} answers");
            let most_off = if precision == "fp32" { 0 } else { all / 10 };
            assert!(all - same <= most_off, "{checkpoint} {precision}: {same} of {all} answers");
        }
    }
}

#[test]
fn a_graph_that_the_provider_does_not_run_is_named() {
    let bundle = folder("grouped-bf16", "fp32");
    let error = |toml: &str| Guard::open_with(&bundle, &Config::from_toml(toml).unwrap()).err().unwrap();
    let wrong = error("runtime.graph = \"paged\"");
    assert!(matches!(wrong, Error::Config { .. }), "{wrong}");
    assert!(wrong.to_string().contains("runtime.graph") && wrong.to_string().contains("paged_cpu"), "{wrong}");
    edit_and_refuse(
        &bundle,
        |manifest| drop(manifest["graphs"].as_table_mut().unwrap().remove("portable")),
        "--target portable",
    );
}

/// Opens a copy after an edit of guard.toml, which is refused for this reason.
fn edit_and_refuse(bundle: &Path, change: impl FnOnce(&mut toml::Table), reason: &str) {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(bundle).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    edit(copy.path(), change);
    // On the CPU, whatever the others run on: what is wrong with a variant that a provider does not use is not seen there.
    let config = Config::from_toml("runtime.graph = \"portable\"").unwrap();
    let error = Guard::open_with(copy.path(), &config).expect_err(reason).to_string();
    assert!(error.contains(reason), "{error}, not {reason}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn fields_of_portable_graphs_are_checked() {
    let bundle = folder("grouped-bf16", "fp32");
    let cases: [(&str, toml::Value, &str); 14] = [
        ("cache", "bf16".into(), "graphs.portable.cache"),
        ("cache", "int8".into(), "cache"),
        ("weights", "other.bin".into(), "files: other.bin is not listed"),
        ("weights", "tokenizer.json".into(), "tokenizer.json"),
        ("embedding.offset", 1_000_000_000.into(), "graphs.portable.embedding.offset"),
        ("embedding.type", "bf16".into(), "graphs.portable.embedding.type"),
        ("variants.1.slots", 2.into(), "graphs.portable.variants[0].slots: 1 does not divide"),
        ("variants.1.slots", 0.into(), "graphs.portable.variants[1].slots: 0 is not 1 to 64"),
        ("variants.0.new_tokens", 0.into(), "graphs.portable.variants[0].new_tokens"),
        ("variants.0.new_tokens", 129.into(), "graphs.portable.variants[0].new_tokens"),
        ("variants.0.context", 0.into(), "graphs.portable.variants[0].context"),
        ("variants.1.file", "paged.onnx".into(), "paged.onnx"),
        ("variants.0.append", "other".into(), "append"),
        ("variants.0.file", "missing.onnx".into(), "files: missing.onnx is not listed"),
    ];
    for (path, value, reason) in cases {
        let change = |manifest: &mut toml::Table| {
            let mut at = &mut manifest["graphs"]["portable"];
            for part in path.split('.') {
                at = match part.parse::<usize>() {
                    Ok(index) => &mut at[index],
                    Err(_) => &mut at[part],
                };
            }
            *at = value;
        };
        // The first slots do not divide others: that error names the first that does not.
        let reason = if path == "variants.1.slots" && reason.contains("divide") { "does not divide" } else { reason };
        edit_and_refuse(&bundle, change, reason);
    }
    let remove = |field: &'static str| {
        move |manifest: &mut toml::Table| drop(manifest["graphs"]["portable"].as_table_mut().unwrap().remove(field))
    };
    edit_and_refuse(&bundle, remove("cache"), "graphs.portable.cache: missing");
    edit_and_refuse(&bundle, remove("embedding"), "graphs.portable.embedding: missing");
    edit_and_refuse(
        &bundle,
        |manifest| drop(manifest["model"].as_table_mut().unwrap().remove("rope_theta")),
        "rope_theta",
    );
}
