//! The portable graphs beside the paged one of the same weights.

use std::{fs, path::PathBuf};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    Activations, RuntimeConfig,
    model::{
        BlockId, CacheFormat, HeadId,
        cpu_ops::isa::Isa,
        paged::{PagedModel, PagedOptions},
    },
};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/golden-portable").join(name)
}

fn bundle(name: &str) -> Bundle {
    Bundle::open(&folder(name)).expect("run `make test-data`")
}

/// A copy of a bundle.
fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder(name)).expect("run `make test-data`") {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

fn runtime() -> Runtime {
    Runtime::load(&RuntimeConfig::default()).unwrap()
}

/// The model of those variants that pass, with at least so many slots.
fn portable(bundle: &mut Bundle, slots: usize, append: Append, keep: impl Fn(&Variant) -> bool) -> PortableModel {
    let graph = bundle.manifest.graphs.get_mut(GRAPH).unwrap();
    graph.variants.retain(|variant| variant.append == append && keep(variant));
    let chosen = Chosen::of(bundle, append).unwrap();
    let slots = slots.next_multiple_of(chosen.shape.slots);
    let cache_bytes = slots * chosen.block().bytes;
    let options = PortableOptions { cache_bytes, threads: 1, runtime: RuntimeConfig::default() };
    PortableModel::open(bundle, &runtime(), chosen, &options).unwrap().0
}

fn paged(bundle: &Bundle) -> PagedModel {
    let options =
        PagedOptions { format: CacheFormat::Fp32, cache_bytes: 32 << 20, threads: 1, activations: Activations::Exact };
    PagedModel::on_cpu(bundle, &runtime(), &options, Isa::detect()).unwrap().0
}

/// Blocks of the paged model for a stream.
const PAGED_BLOCKS: usize = 16;
/// The most tokens of a stream: all contexts of 128 are outgrown.
const MOST: usize = 300;

/// Conversations that both models are at, each in the slot of its number.
struct Both {
    portable: PortableModel,
    paged: PagedModel,
    ids: Vec<Vec<u32>>,
    /// The most tokens that one ever had.
    longest: usize,
    tolerance: f32,
    rng: SmallRng,
}

impl Both {
    fn new(mut bundle: Bundle, streams: usize, append: Append, keep: impl Fn(&Variant) -> bool) -> Self {
        let paged = paged(&bundle);
        // Of logits, which are of the order of 1.
        let tolerance = if bundle.name().ends_with("fp16") { 0.03 } else { 5e-4 };
        let portable = portable(&mut bundle, streams, append, keep);
        Both {
            portable,
            paged,
            ids: vec![Vec::new(); streams],
            longest: 0,
            tolerance,
            rng: SmallRng::seed_from_u64(11),
        }
    }

    /// A step in which some streams go on after so many tokens, by so many.
    fn step(&mut self, streams: &[(usize, usize, usize)]) -> [StepLogits; 2] {
        let heads = self.portable.heads();
        let [mut portable, mut paged] = [(); 2].map(|()| RaggedBatch::new(heads));
        for (stream, past, count) in streams.iter().copied() {
            let ids = &mut self.ids[stream];
            ids.truncate(past);
            ids.extend((0..count).map(|_| self.rng.random_range(0..600u32)));
            self.longest = self.longest.max(ids.len());
            portable.push(&ids[past..], past, &[BlockId::new(stream)]);
            let blocks = (0..PAGED_BLOCKS).map(|block| BlockId::new(stream * PAGED_BLOCKS + block));
            paged.push(&ids[past..], past, &blocks.collect::<Vec<_>>());
        }
        for row in 0..portable.tokens() {
            let wanted = (0..heads).filter(|_| self.rng.random_bool(0.5)).map(HeadId::new).collect();
            portable.want(wanted, row..row + 1);
            paged.want(wanted, row..row + 1);
        }
        [self.portable.run(&portable).unwrap(), self.paged.run(&paged).unwrap()]
    }

    fn check(&mut self, streams: &[(usize, usize, usize)]) {
        let [found, expected] = self.step(streams);
        assert!(found.row_check.iter().all(|check| check.is_finite()));
        for (head, (found, expected)) in found.heads.iter().zip(&expected.heads).enumerate() {
            assert_eq!(found.dim(), expected.dim());
            let off =
                found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, |a, b| if a > b { a } else { b });
            assert!(off <= self.tolerance, "{streams:?}: head {head} is off by {off}");
        }
    }

    /// Streams that go on, are cut back, and begin anew.
    fn wander(&mut self, steps: usize) {
        for _ in 0..steps {
            let mut streams = Vec::new();
            for stream in 0..self.ids.len() {
                let len = self.ids[stream].len();
                let past = match self.rng.random_range(0..12) {
                    0 => 0,
                    1 => self.rng.random_range(0..=len),
                    2..6 => continue,
                    _ if len >= MOST => len / 2,
                    _ => len,
                };
                let count = if self.rng.random_bool(0.5) { 1 } else { self.rng.random_range(1..100) };
                streams.push((stream, past, count.min(MOST + 1 - past)));
            }
            if !streams.is_empty() {
                self.check(&streams);
            }
        }
        assert!(self.longest > 128, "nothing was outgrown: the test is too easy");
    }
}

#[test]
fn one_stream_at_a_time_as_the_paged_graph() {
    for name in ["grouped-bf16-fp32", "odd-bf16-fp16", "multiquery-fp32-fp32"] {
        for append in [Append::Rows, Append::Scatter] {
            Both::new(bundle(name), 4, append, |variant| variant.slots == 1).wander(30);
        }
    }
}

#[test]
fn several_streams_in_a_run_as_the_paged_graph() {
    for name in ["grouped-bf16-fp32", "deep-untied-bf16-fp16"] {
        for append in [Append::Rows, Append::Scatter] {
            Both::new(bundle(name), 5, append, |variant| variant.slots == 3).wander(30);
        }
        // Graphs for one stream and for several over the same slots.
        Both::new(bundle(name), 5, Append::Rows, |_| true).wander(30);
    }
}

#[test]
fn long_work_is_several_runs_of_what_graphs_there_are() {
    for append in [Append::Rows, Append::Scatter] {
        let mut both = Both::new(bundle("grouped-bf16-fp32"), 2, append, |variant| variant.new_tokens == 16);
        both.check(&[(0, 0, 250), (1, 0, 17)]);
        both.check(&[(1, 17, 1), (0, 250, 3)]);
    }
}

/// A head of a whole vocabulary is a graph of its own.
#[test]
fn heads_that_are_graphs_as_the_paged_graph() {
    for name in ["tied-bf16-fp32", "untied-fp16-fp16"] {
        Both::new(bundle(name), 3, Append::Rows, |_| true).wander(20);
        Both::new(bundle(name), 3, Append::Scatter, |_| true).wander(20);
    }
}

/// The last place of the largest context: where graphs write the cache they need it for padding.
#[test]
fn a_stream_may_fill_its_slot() {
    for (append, context) in [(Append::Rows, 128), (Append::Scatter, 127)] {
        let mut both = Both::new(bundle("grouped-bf16-fp32"), 1, append, |variant| variant.context == 128);
        assert_eq!(both.portable.context(), context);
        assert_eq!(both.portable.layout().block_tokens, context);
        both.check(&[(0, 0, 100)]);
        both.check(&[(0, 100, context - 100)]);
        both.check(&[(0, context - 1, 1)]);
        let mut batch = RaggedBatch::new(4);
        batch.push(&[1], context, &[BlockId::new(0)]);
        assert!(both.portable.run(&batch).is_err());
    }
    // The model's own context, where that is less.
    let mut odd = bundle("odd-bf16-fp32");
    assert_eq!(portable(&mut odd, 1, Append::Scatter, |_| true).context(), 512);
}

/// A bundle whose embedding of one token is not a number.
fn damaged(name: &str, token: u64) -> tempfile::TempDir {
    let copy = copy(name);
    let bundle = Bundle::open(copy.path()).unwrap();
    let graph = &bundle.manifest.graphs[GRAPH];
    let path = copy.path().join(&graph.weights);
    let mut weights = fs::read(&path).unwrap();
    let embedding = graph.embedding.unwrap();
    let element = Element::of(embedding.kind).unwrap().bytes() as u64;
    let place = embedding.offset + token * bundle.manifest.model.hidden_size as u64 * element;
    let nan: &[u8] = if element == 4 { &[0, 0, 0xC0, 0x7F] } else { &[0, 0x7E] };
    weights[place as usize..][..nan.len()].copy_from_slice(nan);
    fs::write(path, weights).unwrap();
    copy
}

/// Streams of the same run go on, and so does whoever gets the slot: graphs read all rows of it.
#[test]
fn what_is_not_finite_stays_with_its_stream() {
    const BAD: u32 = 639;
    for name in ["grouped-bf16-fp32", "grouped-bf16-fp16"] {
        let folder = damaged(name, BAD.into());
        for append in [Append::Rows, Append::Scatter] {
            for slots in [1, 3] {
                let opened = Bundle::open(folder.path()).unwrap();
                let mut both = Both::new(opened, 3, append, |variant| variant.slots == slots);
                both.tolerance = 0.03;
                both.check(&[(0, 0, 20), (1, 0, 30), (2, 0, 40)]);
                let mut batch = RaggedBatch::new(4);
                for stream in 0..3 {
                    let past = both.ids[stream].len();
                    let ids: Vec<u32> = (0..20).map(|id| if (stream, id) == (1, 7) { BAD } else { id }).collect();
                    batch.push(&ids, past, &[BlockId::new(stream)]);
                    if stream != 1 {
                        both.ids[stream].extend(ids);
                    }
                }
                batch.want((0..4).map(HeadId::new).collect(), 0..60);
                let logits = both.portable.run(&batch).unwrap();
                assert_eq!(logits.first_not_finite(&batch, 0..20), None);
                // Rows of the same run are not finite either: weights of zero do not keep such numbers out.
                assert!(logits.first_not_finite(&batch, 20..40).is_some_and(|row| row <= 27));
                assert_eq!(logits.first_not_finite(&batch, 40..60), None);
                // The paged model has to have seen what the others were given.
                let mut paged = RaggedBatch::new(4);
                for stream in [0, 2] {
                    let blocks = (0..PAGED_BLOCKS).map(|block| BlockId::new(stream * PAGED_BLOCKS + block));
                    let len = both.ids[stream].len();
                    paged.push(&both.ids[stream][len - 20..], len - 20, &blocks.collect::<Vec<_>>());
                }
                both.paged.run(&paged).unwrap();
                both.check(&[(0, 40, 3), (1, 30, 3), (2, 60, 3)]);
                both.check(&[(1, 0, 25)]);
            }
        }
    }
}

#[test]
fn a_batch_without_a_slot_for_each_stream_is_refused() {
    let mut model = portable(&mut bundle("grouped-bf16-fp32"), 2, Append::Rows, |variant| variant.slots == 1);
    let mut refused = |streams: &[(&[u32], usize, &[usize])], edit: fn(&mut RaggedBatch)| {
        let mut batch = RaggedBatch::new(4);
        for (ids, past, blocks) in streams {
            batch.push(ids, *past, &blocks.iter().map(|block| BlockId::new(*block)).collect::<Vec<_>>());
        }
        edit(&mut batch);
        model.run(&batch).unwrap_err().to_string()
    };
    let slots = "without a slot of its own";
    assert!(refused(&[(&[1], 0, &[2])], |_| {}).contains(slots));
    assert!(refused(&[(&[1], 0, &[])], |_| {}).contains(slots));
    assert!(refused(&[(&[1], 0, &[0, 1])], |_| {}).contains(slots));
    assert!(refused(&[(&[1], 0, &[1]), (&[2], 0, &[1])], |_| {}).contains(slots));
    assert!(refused(&[(&[1], 2048, &[0])], |_| {}).contains(slots));
    assert!(refused(&[(&[1, 2, 3], 0, &[0])], |batch| batch.past_lens[0] = -1).contains(slots));
    assert!(refused(&[(&[1], 0, &[0]), (&[], 5, &[1])], |_| {}).contains(slots));
    assert!(refused(&[(&[640], 0, &[0])], |_| {}).contains("unknown token id"));
    assert!(refused(&[], |_| {}).contains("empty"));
    assert!(refused(&[(&[1], 0, &[0])], |batch| batch.wanted[1] = vec![1]).contains("rows or heads"));
    assert!(refused(&[(&[1], 0, &[0])], |batch| drop(batch.wanted.pop())).contains("rows or heads"));
}

/// Sessions come later than the bundle was opened, and are of the same weights or not at all. Windows does not let a file be
/// exchanged that is mapped.
#[test]
#[cfg(unix)]
fn weights_that_were_exchanged_meanwhile_are_not_taken() {
    let folder = copy("grouped-bf16-fp32");
    let mut model = portable(&mut Bundle::open(folder.path()).unwrap(), 1, Append::Rows, |_| true);
    let batch = |past: usize, ids: &[u32]| {
        let mut batch = RaggedBatch::new(4);
        batch.push(ids, past, &[BlockId::new(0)]);
        batch.want((0..4).map(HeadId::new).collect(), 0..ids.len());
        batch
    };
    let first = model.run(&batch(0, &[5])).unwrap();
    let weights = folder.path().join("weights_fp32.bin");
    fs::copy(&weights, folder.path().join("new")).unwrap();
    fs::rename(folder.path().join("new"), &weights).unwrap();
    let error = model.run(&batch(1, &[6, 7])).unwrap_err().to_string();
    assert!(error.contains("weights_fp32.bin: it changed since the bundle was opened"), "{error}");
    // What has a session goes on, and nothing of the failed step is there.
    assert_eq!(model.run(&batch(0, &[5])).unwrap().heads, first.heads);
}

#[test]
fn a_cache_in_its_place_comes_back_as_it_was() {
    for append in [Append::Rows, Append::Scatter] {
        let mut both = Both::new(bundle("grouped-bf16-fp32"), 3, append, |variant| variant.slots == 3);
        both.check(&[(0, 0, 50), (2, 0, 5)]);
        let mut seen = 0;
        let mut within = |model: &mut dyn Model| {
            seen = model.layout().blocks;
            let mut batch = RaggedBatch::new(4);
            batch.push(&[9, 8, 7], 0, &[BlockId::new(3)]);
            model.run(&batch).map(drop)
        };
        both.portable.with_f32_cache(4, &mut within).unwrap();
        assert_eq!(seen, 6, "whole groups");
        both.check(&[(0, 50, 2), (2, 5, 1)]);
    }
}

#[test]
fn memory_for_too_few_streams_is_named() {
    let bundle = bundle("grouped-bf16-fp32");
    let chosen = Chosen::of(&bundle, Append::Rows).unwrap();
    for bytes in [chosen.block().bytes - 1, 3 * chosen.block().bytes - 1] {
        let error = chosen.groups(bytes).unwrap_err().to_string();
        assert!(error.contains("cache.mib"), "{error}");
    }
    assert_eq!(chosen.groups(7 * chosen.block().bytes).unwrap(), 2);
}
