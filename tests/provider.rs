//! Guards on another execution provider than the CPU: `make test-webgpu` and `make test-cuda` run these with the variable
//! QWENGUARD_TEST_PROVIDER and the bundles that they export, and with QWENGUARD_TEST_CUDA_GRAPHS=1 for steps that are recorded.
//!
//! A provider of 16 bits is held to what the CPU and PyTorch say by a tolerance: a probability within 2e-2 in fp16, of 10 bits
//! of fraction, and 1e-1 in bf16, of 7; and 99 % of labels in fp16 and 98 % in bf16, or all but one where there are fewer than a
//! hundred.

mod common;

use std::path::PathBuf;

use common::{CHECKPOINTS, GEN_CHECKPOINTS, Known, conversations, golden::golden, read_conversations, root};
use qwenguard::{AnnotateOptions, Call, Config, Error, Guard, Message, Provider, Stream, Verdict};

/// How far a probability may be off, and the least share of equal labels.
fn tolerance() -> (f32, f64) {
    if provider() == Provider::Cuda { (1e-1, 0.98) } else { (2e-2, 0.99) }
}

fn provider() -> Provider {
    let name = std::env::var("QWENGUARD_TEST_PROVIDER").expect("QWENGUARD_TEST_PROVIDER names a provider");
    Provider::from_name(&name).unwrap_or_else(|| panic!("QWENGUARD_TEST_PROVIDER={name} is no provider"))
}

fn bundle(folder: &str, checkpoint: &str) -> PathBuf {
    let folder = root().join(format!("target/{folder}/{checkpoint}"));
    assert!(folder.join("guard.toml").is_file(), "{} is missing: run `make test-webgpu`", folder.display());
    folder
}

fn config(provider: Provider, mib: usize) -> Config {
    let mut config = Config::default();
    config.runtime.provider = provider;
    config.cache.mib = mib;
    config.runtime.cuda.graphs = std::env::var_os("QWENGUARD_TEST_CUDA_GRAPHS").is_some();
    config
}

fn open(checkpoint: &str, provider: Provider, mib: usize) -> Guard {
    Guard::open_with(bundle("golden-gpu", checkpoint), &config(provider, mib)).unwrap()
}

/// The same bundle on the CPU, in fp32.
fn exact(checkpoint: &str) -> Guard {
    open(checkpoint, Provider::Cpu, 16)
}

/// The prompt's verdict and those of all tokens of an answer, which is pushed in pieces of a size.
fn judge(guard: &Guard, messages: &[Message], ids: &[u32], size: usize) -> Vec<Verdict> {
    let mut stream = guard.stream().unwrap();
    let mut verdicts = vec![stream.prompt(messages).unwrap().verdict];
    for piece in ids.chunks(size.max(1)) {
        verdicts.extend(stream.push_tokens(piece).unwrap().tokens.into_iter().map(|token| token.verdict));
    }
    verdicts
}

fn ids(guard: &Guard, text: &str) -> Vec<u32> {
    guard.encode(text).unwrap().iter().map(|token| token.id).collect()
}

/// What two lists of verdicts differ in.
#[derive(Default)]
struct Agreement {
    worst: f32,
    same: usize,
    labels: usize,
}

impl Agreement {
    fn take(&mut self, found: &Verdict, expected: &Verdict) {
        let risks: Vec<f32> = expected.risk_probabilities().map(|(_, p)| p).collect();
        let categories: Vec<f32> = expected.category_probabilities().map(|(_, p)| p).collect();
        self.probabilities(&found.risk_probabilities().map(|(_, p)| p).collect::<Vec<_>>(), &risks);
        self.probabilities(&found.category_probabilities().map(|(_, p)| p).collect::<Vec<_>>(), &categories);
    }

    /// One label, and how probable all of them are.
    fn probabilities(&mut self, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
        self.worst = differences.fold(self.worst, f32::max);
        let top = |all: &[f32]| (0..all.len()).reduce(|best, next| if all[next] > all[best] { next } else { best });
        self.labels += 1;
        self.same += usize::from(top(found) == top(expected));
    }

    fn check(&self, what: &str) {
        let share = self.same as f64 / self.labels.max(1) as f64;
        println!("{what}: off by {:.1e} at most, {:.4} of {} labels", self.worst, share, self.labels);
        let (most, least_share) = tolerance();
        assert!(self.worst < most, "{what}: off by {}", self.worst);
        let wrong = self.labels - self.same;
        assert!(self.labels > 0 && (wrong <= 1 || share >= least_share), "{what}: {share} of {} labels", self.labels);
    }
}

/// Everything of the graph is on the provider, and the guard says so.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn every_node_is_on_the_provider() {
    let guard = open("grouped-bf16", provider(), 8);
    let info = guard.info();
    assert_eq!(info.provider, provider().name());
    let [(name, count)] = &info.nodes[..] else { panic!("{:?}", info.nodes) };
    assert!(*count > 20 && name != "CPUExecutionProvider", "{count} nodes on {name}");
    assert!(info.cache_bytes_per_token < exact("grouped-bf16").info().cache_bytes_per_token);
    let found = qwenguard::providers(&config(provider(), 8)).unwrap();
    let own = found.iter().find(|status| status.provider == provider()).unwrap();
    assert!(own.available && own.reason.is_none(), "{own:?}");
    assert!(!own.devices.is_empty(), "{own:?}");
}

/// Probabilities that PyTorch computed in fp32.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn golden_vectors_agree() {
    for checkpoint in CHECKPOINTS {
        let guard = open(checkpoint, provider(), 16);
        let mut agreement = Agreement::default();
        let mut compare = |verdict: &Verdict, risk: &[f32], category: &[f32]| {
            let risks: Vec<f32> = verdict.risk_probabilities().map(|(_, p)| p).collect();
            let categories: Vec<f32> = verdict.category_probabilities().map(|(_, p)| p).collect();
            agreement.probabilities(&risks, risk);
            agreement.probabilities(&categories, category);
        };
        for (conversation, expected) in conversations().iter().zip(golden(checkpoint)) {
            let (messages, answer) = conversation.split();
            let verdicts = judge(&guard, messages, &ids(&guard, answer.unwrap_or_default()), usize::MAX);
            compare(&verdicts[0], &expected.prompt.risk, &expected.prompt.category);
            let answer = &expected.answer;
            for (row, index) in answer.index.iter().enumerate() {
                compare(&verdicts[1 + index], &answer.risk[row], &answer.category[row]);
            }
        }
        agreement.check(checkpoint);
    }
}

/// Models that write their verdict.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn annotations_agree() {
    for checkpoint in GEN_CHECKPOINTS {
        let folder = bundle("golden-gpu-gen", checkpoint);
        let [found, exact] = [provider(), Provider::Cpu].map(|provider| {
            let guard = Guard::open_with(&folder, &config(provider, 16)).unwrap();
            let conversations = read_conversations("tests/golden/gen/conversations.jsonl");
            let messages = conversations.iter().map(|conversation| &conversation.messages[..]);
            let all = guard.annotate_all(messages, &AnnotateOptions::default());
            all.into_iter().collect::<Vec<_>>()
        });
        let mut agreement = Agreement::default();
        for (found, exact) in found.iter().zip(&exact) {
            let (found, exact) = match (found, exact) {
                (Ok(found), Ok(exact)) => (found, exact),
                (found, exact) => {
                    assert_eq!(found.is_err(), exact.is_err(), "{found:?}, {exact:?}");
                    continue;
                }
            };
            let risks = |all: &[(qwenguard::Risk, f32)]| all.iter().map(|(_, p)| *p).collect::<Vec<_>>();
            agreement.probabilities(&risks(&found.risk_probabilities), &risks(&exact.risk_probabilities));
        }
        agreement.check(checkpoint);
    }
}

/// One token at a time, pieces, and all at once; alone, and with others of other lengths.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn how_and_with_whom_an_answer_is_pushed_matters_little() {
    let (guard, exact) = (open("grouped-bf16", provider(), 16), exact("grouped-bf16"));
    let conversations = conversations();
    let mut agreement = Agreement::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = conversations
            .iter()
            .zip([1, 3, 20, usize::MAX].into_iter().cycle())
            .map(|(conversation, size)| {
                let (guard, exact) = (&guard, &exact);
                scope.spawn(move || {
                    let (messages, answer) = conversation.split();
                    let ids = ids(guard, answer.unwrap_or_default());
                    (judge(guard, messages, &ids, size), judge(exact, messages, &ids, usize::MAX))
                })
            })
            .collect();
        for thread in threads {
            let (found, expected) = thread.join().unwrap();
            assert_eq!(found.len(), expected.len());
            found.iter().zip(&expected).for_each(|(found, expected)| agreement.take(found, expected));
        }
    });
    agreement.check("pieces in company");
}

/// More streams than blocks: each loses its blocks to others, and has the verdicts that it would have alone.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn streams_that_lose_their_blocks_are_computed_again() {
    let exact = exact("grouped-bf16");
    // 32 blocks of 128 tokens.
    let guard = open("grouped-bf16", provider(), 2);
    let text = "all that is said here is said again and again and again ".repeat(12);
    let ids = ids(&guard, &text);
    let prompts: Vec<[Message; 1]> =
        (0..24).map(|index| [Message::user(format!("{index} {}", &text[..text.len() / 2]))]).collect();
    let mut streams: Vec<Stream> = prompts.iter().map(|_| guard.stream().unwrap()).collect();
    for (stream, prompt) in streams.iter_mut().zip(&prompts) {
        stream.prompt(prompt).unwrap();
    }
    let mut found: Vec<Vec<Verdict>> = vec![Vec::new(); streams.len()];
    for piece in ids[..120].chunks(40) {
        let calls = streams.iter_mut().map(|stream| (stream, Call::Tokens(piece)));
        for (found, reply) in found.iter_mut().zip(Stream::call_all(calls)) {
            found.extend(reply.unwrap().into_update().unwrap().tokens.into_iter().map(|token| token.verdict));
        }
    }
    assert!(guard.stats().evictions > 0, "{:?}", guard.stats());
    let mut agreement = Agreement::default();
    for (prompt, found) in prompts.iter().zip(&found).step_by(5) {
        let expected = judge(&exact, prompt, &ids[..120], usize::MAX);
        found.iter().zip(&expected[1..]).for_each(|(found, expected)| agreement.take(found, expected));
    }
    agreement.check("after evictions");
}

/// Equal beginnings are computed once; a fork and its parent go on apart; what is cut back is forgotten.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn prefixes_forks_and_cuts_are_those_of_the_cpu() {
    let text = "what comes first is the same for all who ask for it and more ".repeat(20);
    let prompt = [Message::user(text)];
    let [found, expected] = [provider(), Provider::Cpu].map(|provider| {
        let guard = open("grouped-bf16", provider, 16);
        let mut verdicts = vec![judge(&guard, &prompt, &ids(&guard, "one answer, not long"), 2)];
        let before = guard.stats().prefix_hit_tokens;
        let mut stream = guard.stream().unwrap();
        stream.prompt(&prompt).unwrap();
        assert!(guard.stats().prefix_hit_tokens >= before + 128, "{:?}", guard.stats());
        let mut known = Known::default();
        known.take(stream.push_text("What is true of one ").unwrap());
        let mut fork = stream.fork().unwrap();
        let mut other = Known::default();
        other.take(fork.push_text("is not true of the other.").unwrap());
        known.take(stream.push_text("and more, much more ").unwrap());
        known.take(stream.truncate(10).unwrap());
        known.take(stream.push_text("comes after it").unwrap());
        other.take(fork.finish().unwrap());
        known.take(stream.finish().unwrap());
        verdicts.extend([known.verdicts(), other.verdicts()]);
        verdicts.concat()
    });
    let mut agreement = Agreement::default();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).for_each(|(found, expected)| agreement.take(found, expected));
    agreement.check("prefixes, forks and cuts");
}

/// Guards of one process that begin at the same time, and so record at the same time, where steps are recorded.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn guards_of_a_process_do_not_disturb_each_other() {
    let conversations = conversations();
    let mut agreement = Agreement::default();
    std::thread::scope(|scope| {
        let threads = ["grouped-bf16", "sharded-fp16", "grouped-bf16"].map(|checkpoint| {
            let conversations = &conversations;
            scope.spawn(move || {
                let (guard, exact) = (open(checkpoint, provider(), 8), exact(checkpoint));
                let judged = conversations.iter().take(8).flat_map(|conversation| {
                    let (messages, answer) = conversation.split();
                    let ids = ids(&guard, answer.unwrap_or_default());
                    let [found, expected] = [&guard, &exact].map(|guard| judge(guard, messages, &ids, 3));
                    found.into_iter().zip(expected).collect::<Vec<_>>()
                });
                judged.collect::<Vec<_>>()
            })
        });
        for thread in threads {
            thread.join().unwrap().iter().for_each(|(found, expected)| agreement.take(found, expected));
        }
    });
    agreement.check("guards of a process");
}

/// The demonstration guard stops its answer at the byte where the CPU does.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn the_demonstration_guard_cuts_at_the_same_byte() {
    let folder = bundle("golden-gpu", "nano");
    let mut cut = Vec::new();
    for line in read_conversations("export/nano/demo.jsonl") {
        let (messages, Some(answer)) = line.split() else { continue };
        let [found, expected] = [provider(), Provider::Cpu].map(|provider| {
            let guard = Guard::open_with(&folder, &config(provider, 16)).unwrap();
            let mut stream = guard.stream().unwrap();
            let decision = stream.prompt(messages).unwrap().decision;
            stream.push_text(answer).unwrap();
            let update = stream.finish().unwrap();
            (decision, update.decision, update.horizon, update.violation.map(|violation| violation.bytes))
        });
        assert_eq!(found, expected, "{}", line.id);
        cut.extend(found.3);
    }
    assert!(!cut.is_empty());
}

/// Many short conversations, in blocks that are given back and taken again.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn it_goes_on_for_long() {
    let (guard, exact) = (open("grouped-bf16", provider(), 2), exact("grouped-bf16"));
    let conversations = conversations();
    let mut agreement = Agreement::default();
    for round in 0..6 {
        for conversation in &conversations {
            let (messages, answer) = conversation.split();
            let ids = ids(&guard, answer.unwrap_or_default());
            let ids = &ids[..ids.len().min(60)];
            let found = judge(&guard, messages, ids, 7 + round);
            if round == 5 {
                let expected = judge(&exact, messages, ids, usize::MAX);
                found.iter().zip(&expected).for_each(|(found, expected)| agreement.take(found, expected));
            }
        }
    }
    agreement.check("a soak");
    let stats = guard.stats();
    assert_eq!((stats.failed_steps, stats.open_streams), (0, 0));
}

/// What cannot be had says why, in one line, and nothing takes its place.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn settings_that_do_not_fit_are_errors() {
    let folder = bundle("golden-gpu", "grouped-bf16");
    type Edit = fn(&mut Config);
    let mut cases: Vec<(Edit, &str)> = vec![
        (|config| config.cache.precision = qwenguard::CachePrecision::Int8, "cache.precision: the graph paged_"),
        (
            |config| {
                config.runtime.webgpu.device = 7;
                config.runtime.cuda.device = 77;
            },
            "device",
        ),
        (
            |config| {
                config.runtime.webgpu.library = Some("/nowhere/plugin.so".into());
                config.runtime.cuda.library = Some("/nowhere/plugin.so".into());
            },
            "/nowhere/plugin.so",
        ),
        (
            |config| {
                // A library, but no plugin.
                let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).unwrap();
                let library = if library.is_dir() { library.join("libonnxruntime.so") } else { library };
                (config.runtime.webgpu.library, config.runtime.cuda.library) = (Some(library.clone()), Some(library));
            },
            "plugin",
        ),
    ];
    if provider() == Provider::Cuda {
        // More than any device has. In software, where memory is the host's, there may be so much.
        cases.push((|config| config.cache.mib = 1 << 20, "set cache.mib to less"));
    }
    for (edit, expected) in cases {
        let mut config = config(provider(), 8);
        edit(&mut config);
        let Err(error) = Guard::open_with(&folder, &config) else { panic!("{expected}: it was opened") };
        let words = error.to_string();
        assert!(words.contains(expected) && !words.contains('\n'), "{words}");
        let expected = matches!(error, Error::Provider { .. } | Error::Config { .. } | Error::OutOfMemory { .. });
        assert!(expected, "{words}");
    }
    // And it is still there.
    drop(open("grouped-bf16", provider(), 8));
}
