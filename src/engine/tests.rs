//! The engine over a model that shows every mistake in bookkeeping: its logits for a token are a hash of all tokens up
//! to there, read back from its cache by block table.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use ndarray::Array2;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{Batch, Engine, Limits, Pending, Read, Sequence, reply::Notify};
use crate::{
    Error, Result, Stats,
    model::{HeadId, Layout, Logits, Model, RaggedBatch, StepLogits},
};

/// Tokens in a block.
const BLOCK: usize = 32;

#[derive(Default)]
struct Counters {
    largest_step: AtomicUsize,
    tokens: AtomicUsize,
    fail: AtomicBool,
    /// Rows that heads were computed for.
    head_rows: AtomicUsize,
    /// While it is set, the model does what damaged weights do: see [`BAD`].
    damaged: AtomicBool,
    /// While it is set, the damage is in a head alone.
    head_damaged: AtomicBool,
    panic: AtomicBool,
}

struct HashModel {
    cache: Vec<[i64; BLOCK]>,
    counters: Arc<Counters>,
    gate: Option<(mpsc::Sender<Vec<usize>>, mpsc::Receiver<()>)>,
}

/// Holds a model in its steps. Once dropped it holds it no more.
struct Gate {
    entered: mpsc::Receiver<Vec<usize>>,
    leave: mpsc::Sender<()>,
}

impl Gate {
    /// Waits until the model is in a step. Returns how many tokens each of the streams in it has.
    fn enter(&self) -> Vec<usize> {
        self.entered.recv().unwrap()
    }

    /// Lets the model go on.
    fn leave(&self) {
        self.leave.send(()).unwrap();
    }
}

/// A token that the model panics on.
const UNKNOWN: i64 = 999_999;

/// A token that damaged weights have no finite numbers for; what goes to the cache looks sound, but is not.
const BAD: i64 = 777_777;

/// A head whose logit is the hash of the tokens up to there, one whose logit is the negative of it, and one of two classes
/// that says nothing.
const RESPONSE: HeadId = HeadId::new(0);
const QUERY: HeadId = HeadId::new(1);
const DULL: HeadId = HeadId::new(2);

fn response(from: usize) -> Read {
    Read { heads: [RESPONSE, DULL].into_iter().collect(), from }
}

fn query(from: usize) -> Read {
    Read { heads: [DULL, QUERY].into_iter().collect(), from }
}

/// The hash of a prefix as the model's logits give it.
fn hash(prefix: impl IntoIterator<Item = i64>) -> f32 {
    let hash = prefix.into_iter().fold(7u64, |hash, id| (hash * 31 + id as u64) % 1_000_003);
    hash as f32
}

impl Model for HashModel {
    fn name(&self) -> &str {
        "hashes"
    }

    fn layout(&self) -> Layout {
        Layout { block_tokens: BLOCK, blocks: self.cache.len(), block_bytes: 100 }
    }

    fn heads(&self) -> usize {
        3
    }

    fn with_f32_cache(&mut self, _: usize, run: &mut dyn FnMut(&mut dyn Model) -> Result<()>) -> Result<()> {
        run(self)
    }

    fn run(&mut self, batch: &RaggedBatch) -> Result<StepLogits> {
        self.counters.largest_step.fetch_max(batch.tokens(), Ordering::Relaxed);
        self.counters.tokens.fetch_add(batch.tokens(), Ordering::Relaxed);
        if let Some((entered, leave)) = &self.gate {
            let _ = entered.send(batch.cu_seqlens.windows(2).map(|ends| (ends[1] - ends[0]) as usize).collect());
            let _ = leave.recv();
        }
        if self.counters.fail.swap(false, Ordering::Relaxed) {
            return Err(Error::inference("on purpose"));
        }
        assert!(!self.counters.panic.swap(false, Ordering::Relaxed), "on purpose");
        assert!(!batch.input_ids.contains(&UNKNOWN), "on purpose");
        let mut hashes = Vec::new();
        for (stream, blocks) in batch.blocks.iter().enumerate() {
            let (from, to) = (batch.cu_seqlens[stream] as usize, batch.cu_seqlens[stream + 1] as usize);
            for (offset, id) in batch.input_ids[from..to].iter().enumerate() {
                let position = batch.past_lens[stream] as usize + offset;
                let stored = if self.is(&self.counters.damaged, *id) { 7 } else { *id };
                self.cache[blocks[position / BLOCK] as usize][position % BLOCK] = stored;
                let stored = (0..=position).map(|at| self.cache[blocks[at / BLOCK] as usize][at % BLOCK]);
                hashes.push(hash(stored));
            }
        }
        let damaged = |row: usize, flag: &AtomicBool| self.is(flag, batch.input_ids[row]);
        let head = |head: HeadId, classes: usize, logit: &dyn Fn(usize) -> f32| {
            let wanted = &batch.wanted[head.index()];
            assert!(wanted.is_sorted_by(|a, b| a < b));
            self.counters.head_rows.fetch_add(wanted.len(), Ordering::Relaxed);
            Array2::from_shape_fn((wanted.len(), classes), |(row, _)| logit(wanted[row]))
        };
        let dull = |row: usize| if damaged(row, &self.counters.head_damaged) { f32::INFINITY } else { 0.5 };
        let check = |row: usize| if damaged(row, &self.counters.damaged) { f32::NAN } else { 1.0 };
        Ok(StepLogits {
            heads: vec![
                head(RESPONSE, 1, &|row| hashes[row]),
                head(QUERY, 1, &|row| -hashes[row]),
                head(DULL, 2, &dull),
            ],
            row_check: (0..hashes.len()).map(check).collect(),
        })
    }
}

impl HashModel {
    /// Whether a token is the bad one while a flag is set.
    fn is(&self, flag: &AtomicBool, id: i64) -> bool {
        id == BAD && flag.load(Ordering::Relaxed)
    }
}

const LIMITS: Limits = Limits { context: 1000, step_tokens: 50, max_sequences: 8, max_queued_tokens: 5000, idle: None };

fn start(blocks: usize, limits: Limits, gate: Option<(mpsc::Sender<Vec<usize>>, mpsc::Receiver<()>)>) -> TestEngine {
    let counters = Arc::new(Counters::default());
    let model = HashModel { cache: vec![[-1; BLOCK]; blocks], counters: counters.clone(), gate };
    (Arc::new(Engine::start(Box::new(model), limits).unwrap()), counters)
}

type TestEngine = (Arc<Engine>, Arc<Counters>);

fn engine(blocks: usize, step_tokens: usize) -> TestEngine {
    start(blocks, Limits { step_tokens, ..LIMITS }, None)
}

fn gated_engine(blocks: usize) -> (Arc<Engine>, Gate) {
    let ((enter, entered), (leave, left)) = (mpsc::channel(), mpsc::channel());
    (start(blocks, LIMITS, Some((enter, left))).0, Gate { entered, leave })
}

/// Waits until the worker has come so far.
fn stats_when(engine: &Engine, is: impl Fn(&Stats) -> bool) -> Stats {
    loop {
        let stats = engine.stats();
        if is(&stats) {
            return stats;
        }
        thread::yield_now();
    }
}

/// Appends tokens that belong to one sequence only and checks every logit.
fn append(sequence: &mut Sequence, tokens: &mut Vec<i64>, seed: u32, count: usize) {
    let ids: Vec<u32> = (0..count as u32).map(|i| seed * 1000 + tokens.len() as u32 + i).collect();
    let before = tokens.len();
    tokens.extend(ids.iter().map(|id| i64::from(*id)));
    let logits = sequence.append(ids, response(0)).unwrap();
    for row in 0..count {
        assert_eq!(logits.head(RESPONSE)[[row, 0]], hash(tokens[..before + row + 1].iter().copied()));
    }
}

#[test]
fn long_work_is_cut_into_steps_and_only_the_wanted_rows_come_back() {
    let (engine, counters) = engine(64, 50);
    let mut sequence = engine.sequence().unwrap();
    let ids: Vec<u32> = (0..130).collect();
    let logits = sequence.append(ids.clone(), query(128)).unwrap();
    assert_eq!(logits.head(QUERY).dim(), (2, 1));
    assert_eq!(logits.head(QUERY)[[1, 0]], -hash(ids.iter().map(|id| i64::from(*id))));
    assert_eq!(counters.largest_step.load(Ordering::Relaxed), 50);
    assert_eq!(sequence.append(vec![], response(0)).unwrap().head(RESPONSE).nrows(), 0);
    assert_eq!(sequence.len(), 130);
}

#[test]
fn streams_of_many_threads_do_not_mix_while_their_blocks_are_evicted() {
    // 8 streams of up to 200 tokens want 56 blocks; there are 12. All of them have come half the way before one goes on, so
    // that most have lost blocks by then, whoever was first.
    let (engine, counters) = engine(12, 40);
    let half = Barrier::new(8);
    thread::scope(|scope| {
        for seed in 1..=8 {
            let (engine, half) = (&engine, &half);
            scope.spawn(move || {
                let mut sequence = engine.sequence().unwrap();
                let mut tokens = Vec::new();
                for step in 0..25 {
                    if step == 13 {
                        half.wait();
                    }
                    append(&mut sequence, &mut tokens, seed, 1 + (step * 7 + seed as usize) % 15);
                }
            });
        }
    });
    let pushed: usize = (1..=8).map(|seed| (0..25).map(|step| 1 + (step * 7 + seed) % 15).sum::<usize>()).sum();
    assert!(counters.tokens.load(Ordering::Relaxed) > pushed, "nothing was evicted: the test is too easy");
}

#[test]
fn a_failed_step_changes_nothing() {
    let (engine, counters) = engine(64, 50);
    let mut sequence = engine.sequence().unwrap();
    let mut tokens = Vec::new();
    append(&mut sequence, &mut tokens, 1, 70);
    counters.fail.store(true, Ordering::Relaxed);
    let error = sequence.append(vec![1; 60], response(0)).unwrap_err();
    assert!(matches!(&error, Error::Inference { reason, .. } if reason == "on purpose"), "{error}");
    append(&mut sequence, &mut tokens, 1, 40);
    counters.panic.store(true, Ordering::Relaxed);
    let error = sequence.append(vec![1], response(0)).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    append(&mut sequence, &mut tokens, 1, 40);
}

/// Begins an append for each of some new sequences while a step runs, so that the next step has all of them.
fn begin_in_one_step(engine: &Arc<Engine>, gate: &Gate, appends: &[&[i64]]) -> Vec<(Sequence, super::Pending)> {
    let mut first = engine.sequence().unwrap();
    let held = begin(&mut first, &[1]);
    gate.enter();
    let begun = appends.iter().map(|ids| {
        let mut sequence = engine.sequence().unwrap();
        let pending = begin(&mut sequence, ids);
        (sequence, pending)
    });
    let begun = begun.collect();
    gate.leave();
    assert_eq!(gate.enter(), appends.iter().map(|ids| ids.len()).collect::<Vec<_>>());
    gate.leave();
    first.complete(held).unwrap();
    begun
}

#[test]
fn logits_that_are_not_finite_are_an_error_of_their_stream_alone() {
    let ((enter, entered), (leave, left)) = (mpsc::channel(), mpsc::channel());
    let (engine, counters) = start(64, LIMITS, Some((enter, left)));
    let gate = Gate { entered, leave };
    counters.damaged.store(true, Ordering::Relaxed);
    let appends: [&[i64]; 3] = [&[5, 6, 7], &[8, BAD, 9, 10], &[11, 12]];
    let mut begun = begin_in_one_step(&engine, &gate, &appends);
    for (index, ((sequence, pending), ids)) in begun.drain(..).zip(appends).enumerate() {
        let mut sequence = sequence;
        let result = sequence.complete(pending);
        if index != 1 {
            check(ids, ids.len(), &result.unwrap());
            continue;
        }
        let error = result.unwrap_err();
        let Error::Inference { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("bundle hashes") && reason.contains("token 1 are not finite"), "{error}");
        // The stream is as it was before, and goes on.
        assert_eq!(sequence.len(), 0);
        let next = begin(&mut sequence, &[8, 9]);
        gate.enter();
        gate.leave();
        check(&[8, 9], 2, &sequence.complete(next).unwrap());
    }
    assert_eq!(engine.stats().failed_steps, 0);
}

/// Rows that nobody reads count too: what comes after them would be built on their keys and values, and be found by
/// others with the same prefix.
#[test]
fn nothing_is_kept_of_tokens_whose_logits_are_not_finite() {
    let (engine, counters) = engine(64, 50);
    let mut prompt: Vec<i64> = (0..4 * BLOCK as i64).collect();
    prompt[BLOCK + 5] = BAD;
    let ids: Vec<u32> = prompt.iter().map(|id| *id as u32).collect();
    let last = prompt.len() - 1;
    let mut first = engine.sequence().unwrap();
    append(&mut first, &mut Vec::new(), 9, 3);
    counters.damaged.store(true, Ordering::Relaxed);
    let error = first.append(ids.clone(), response(last)).unwrap_err();
    assert!(error.to_string().contains(&format!("token {} are not finite", 3 + BLOCK + 5)), "{error}");
    assert_eq!(first.len(), 3);
    let mut second = engine.sequence().unwrap();
    second.append(ids.clone(), query(last)).unwrap_err();
    counters.damaged.store(false, Ordering::Relaxed);
    for mut sequence in [second, engine.sequence().unwrap()] {
        let logits = sequence.append(ids.clone(), response(last)).unwrap();
        assert_eq!(logits.head(RESPONSE)[[0, 0]], hash(prompt.iter().copied()));
    }
    let mut tokens: Vec<i64> = (9000..9003).collect();
    append(&mut first, &mut tokens, 9, 2);
}

/// What is computed of heads is what was asked for: of a prompt its last row, of an answer all, of what is only to be in the
/// cache nothing.
#[test]
fn heads_are_computed_for_wanted_rows_of_mixed_streams() {
    let ((enter, entered), (leave, left)) = (mpsc::channel(), mpsc::channel());
    let (engine, counters) = start(64, LIMITS, Some((enter, left)));
    let gate = Gate { entered, leave };
    let head_rows = || counters.head_rows.swap(0, Ordering::Relaxed);
    let mut streams: Vec<_> = (0..4).map(|_| engine.sequence().unwrap()).collect();
    let reads = [query(6), response(0), response(3), response(1)];
    let texts: [&[i64]; 4] = [&[1, 2, 3, 4, 5, 6, 7], &[11, 12], &[21, 22, 23], &[31, 32]];
    let mut batch = Batch::default();
    let mut begun = Vec::new();
    for ((stream, ids), read) in streams.iter_mut().zip(texts).zip(reads) {
        let ids = ids.iter().map(|id| *id as u32).collect();
        begun.push(stream.begin_append(ids, read, None, &mut batch).unwrap());
    }
    drop(batch);
    let mut lengths = gate.enter();
    lengths.sort_unstable();
    assert_eq!(lengths, [2, 2, 3, 7], "all are in one step");
    gate.leave();
    let logits: Vec<_> = streams.iter_mut().zip(begun).map(|(stream, begun)| stream.complete(begun).unwrap()).collect();
    assert_eq!(head_rows(), 2 * (1 + 2 + 1));
    assert_eq!(logits[0].head(QUERY)[[0, 0]], -hash(texts[0].iter().copied()));
    assert_eq!(logits[0].head(DULL).dim(), (1, 2));
    assert_eq!(logits[0].head(RESPONSE).nrows(), 0, "nobody asked for it");
    check(texts[1], 2, &logits[1]);
    assert_eq!(logits[2].head(RESPONSE).nrows(), 0);
    assert_eq!(logits[2].head(DULL).nrows(), 0);
    check(texts[3], 1, &logits[3]);
    // A step without any wanted row, then what was only read into the cache is built on.
    let silent = streams[2].begin(vec![24, 25], response(2), None).unwrap();
    gate.enter();
    gate.leave();
    assert_eq!(streams[2].complete(silent).unwrap().head(RESPONSE).nrows(), 0);
    assert_eq!(head_rows(), 0);
    let spoken = begin(&mut streams[2], &[26]);
    drop(gate);
    check(&[21, 22, 23, 24, 25, 26], 1, &streams[2].complete(spoken).unwrap());
}

/// A row that is wanted of no head has no logits to be looked at, but its own numbers are.
#[test]
fn rows_that_nobody_wants_are_checked_and_heads_where_they_are_wanted() {
    let (engine, counters) = engine(64, 50);
    let mut sequence = engine.sequence().unwrap();
    let ids = vec![1, BAD as u32, 2];
    counters.damaged.store(true, Ordering::Relaxed);
    for read in [response(0), response(2), response(3), query(2)] {
        let error = sequence.append(ids.clone(), read).unwrap_err();
        assert!(error.to_string().contains("token 1 are not finite"), "{error}");
        assert_eq!(sequence.len(), 0);
    }
    counters.damaged.store(false, Ordering::Relaxed);
    counters.head_damaged.store(true, Ordering::Relaxed);
    for read in [response(0), query(1)] {
        let error = sequence.append(ids.clone(), read).unwrap_err();
        assert!(error.to_string().contains("token 1 are not finite"), "{error}");
    }
    check(&[1, BAD, 2], 1, &sequence.append(ids, response(2)).unwrap());
}

#[test]
fn limits_are_errors() {
    let (engine, _) = engine(4, 50);
    let mut sequence = engine.sequence().unwrap();
    // What the whole cache does not hold never passes: that is no reason to try again.
    let error = sequence.append(vec![1; 4 * BLOCK + 1], response(0)).unwrap_err();
    assert!(matches!(error, Error::ContextFull { used: 0, wanted: 129, limit: 128 }), "{error}");
    assert!(error.to_string().contains("cache.mib"), "{error}");
    assert_eq!(engine.context(), 128);
    let (roomy, _) = start(64, LIMITS, None);
    let error = roomy.sequence().unwrap().append(vec![1; 1001], response(0)).unwrap_err();
    assert!(matches!(error, Error::ContextFull { used: 0, wanted: 1001, limit: 1000 }), "{error}");
    append(&mut sequence, &mut Vec::new(), 1, 4 * BLOCK);
    let others: Vec<_> = (0..7).map(|_| engine.sequence().unwrap()).collect();
    assert!(matches!(engine.sequence(), Err(Error::Busy { limit: 8, .. })));
    drop(others);
    engine.sequence().unwrap();
}

#[test]
fn closing_gives_blocks_back() {
    let (engine, counters) = engine(4, 200);
    for seed in 1..20 {
        let mut sequence = engine.sequence().unwrap();
        append(&mut sequence, &mut Vec::new(), seed, 4 * BLOCK);
    }
    assert_eq!(counters.tokens.load(Ordering::Relaxed), 19 * 4 * BLOCK, "nothing was computed twice");
}

#[test]
fn a_sequence_that_is_cut_back_goes_on_as_if_the_rest_had_never_been() {
    let (engine, counters) = engine(64, 50);
    let mut sequence = engine.sequence().unwrap();
    let mut tokens = Vec::new();
    append(&mut sequence, &mut tokens, 1, 100);
    for len in [99, 96, 64, 63, 5, 0] {
        sequence.cut(len).unwrap();
        tokens.truncate(len);
        append(&mut sequence, &mut tokens, 2 + len as u32, 40);
        sequence.cut(len).unwrap();
        tokens.truncate(len);
    }
    // What was cut off stays published, so the block before it may not be written: 31 and 5 tokens are computed again.
    assert_eq!(counters.tokens.load(Ordering::Relaxed), 100 + 6 * 40 + 31 + 5);
}

#[test]
fn forks_share_a_prefix_and_nothing_else() {
    let (engine, counters) = engine(64, 50);
    let mut first = engine.sequence().unwrap();
    let mut tokens = Vec::new();
    append(&mut first, &mut tokens, 1, 2 * BLOCK + 10);
    let mut forks: Vec<_> = (0..4).map(|_| (first.fork().unwrap(), tokens.clone())).collect();
    for (seed, (fork, tokens)) in forks.iter_mut().enumerate() {
        append(fork, tokens, 10 + seed as u32, 5);
    }
    append(&mut first, &mut tokens, 2, 5);
    // Each fork computes the ten tokens of the unfinished block again.
    assert_eq!(counters.tokens.load(Ordering::Relaxed), 2 * BLOCK + 10 + 4 * 15 + 5);
    // Cut back into a shared block, then written on: the others must not notice.
    first.cut(BLOCK + 7).unwrap();
    tokens.truncate(BLOCK + 7);
    append(&mut first, &mut tokens, 3, 50);
    for (seed, (fork, tokens)) in forks.iter_mut().enumerate() {
        append(fork, tokens, 20 + seed as u32, 30);
    }
    drop(first);
    let (mut fork, mut tokens) = forks.pop().unwrap();
    drop(forks);
    append(&mut fork, &mut tokens, 30, 100);
}

#[test]
fn blocks_of_forks_come_back_when_the_last_one_closes() {
    let (engine, _) = engine(4, 200);
    for seed in 1..10 {
        let mut first = engine.sequence().unwrap();
        let mut tokens = Vec::new();
        append(&mut first, &mut tokens, seed, 2 * BLOCK);
        let mut fork = first.fork().unwrap();
        append(&mut fork, &mut tokens, seed, 2 * BLOCK);
        drop(first);
        append(&mut fork, &mut tokens, seed, 0);
    }
}

/// Begins to append `ids`; what it was is to be checked by [`check`].
fn begin(sequence: &mut Sequence, ids: &[i64]) -> Pending {
    begin_in(sequence, ids, &mut Batch::default())
}

fn begin_in(sequence: &mut Sequence, ids: &[i64], batch: &mut Batch) -> Pending {
    let ids = ids.iter().map(|id| *id as u32).collect();
    sequence.begin_append(ids, response(0), None, batch).unwrap()
}

/// What streams do with a batch for each call.
impl Sequence {
    fn begin(&mut self, ids: Vec<u32>, read: Read, notify: Option<Notify>) -> Result<Pending> {
        self.begin_append(ids, read, notify, &mut Batch::default())
    }

    fn append(&mut self, ids: Vec<u32>, read: Read) -> Result<Logits> {
        let pending = self.begin(ids, read, None)?;
        self.complete(pending)
    }

    fn complete_by(&mut self, pending: Pending, deadline: Instant) -> Result<Logits> {
        if pending.wait_until(deadline) { self.complete(pending) } else { Err(Error::DeadlineExceeded) }
    }

    fn cut(&mut self, len: usize) -> Result<()> {
        self.truncate(len, &mut Batch::default())
    }
}

fn check(tokens: &[i64], appended: usize, logits: &Logits) {
    assert_eq!(logits.head(RESPONSE).nrows(), appended);
    for row in 0..appended {
        let end = tokens.len() - appended + row + 1;
        assert_eq!(logits.head(RESPONSE)[[row, 0]], hash(tokens[..end].iter().copied()));
    }
}

#[test]
fn an_append_that_is_cancelled_in_a_running_step_never_was() {
    let (engine, gate) = gated_engine(64);
    let mut sequence = engine.sequence().unwrap();
    let cancelled = begin(&mut sequence, &[1, 2, 3]);
    gate.enter();
    assert!(!cancelled.is_ready());
    drop(cancelled);
    let late = begin(&mut sequence, &[4; 70]);
    gate.leave();
    gate.enter();
    let error = sequence.complete_by(late, Instant::now()).unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded), "{error}");
    assert_eq!(sequence.len(), 0);
    let kept = begin(&mut sequence, &[5, 6]);
    gate.leave();
    gate.enter();
    gate.leave();
    check(&[5, 6], 2, &sequence.complete(kept).unwrap());
    assert_eq!(sequence.len(), 2);
}

#[test]
fn an_append_that_is_cancelled_when_it_is_done_never_was() {
    let (engine, _) = engine(64, 50);
    let mut sequence = engine.sequence().unwrap();
    let cancelled = begin(&mut sequence, &[1, 2, 3]);
    cancelled.wait();
    assert!(cancelled.is_ready());
    drop(cancelled);
    check(&[5, 6], 2, &sequence.append(vec![5, 6], response(0)).unwrap());
    // Superseded by a later append, by a cut, by the end of the sequence.
    let first = begin(&mut sequence, &[1; 30]);
    let second = begin(&mut sequence, &[7]);
    assert!(matches!(sequence.complete(first), Err(Error::WrongState { call: "complete", .. })));
    check(&[5, 6, 7], 1, &sequence.complete(second).unwrap());
    let cut = begin(&mut sequence, &[8]);
    sequence.cut(1).unwrap();
    assert!(matches!(sequence.complete(cut), Err(Error::WrongState { call: "complete", .. })));
    check(&[5, 9], 1, &sequence.append(vec![9], response(0)).unwrap());
    let orphan = begin(&mut sequence, &[10; 900]);
    drop(sequence);
    orphan.wait();
}

#[test]
fn the_worker_says_once_that_an_answer_is_there() {
    let (engine, gate) = gated_engine(64);
    let mut sequence = engine.sequence().unwrap();
    let (send, calls) = mpsc::channel();
    let say = |what: &'static str| -> Option<Notify> {
        let send = send.clone();
        Some(Arc::new(move || send.send(what).unwrap()))
    };
    let read = response(0);
    let nothing = sequence.begin(vec![], read, say("nothing")).unwrap();
    assert_eq!(calls.try_recv(), Ok("nothing"));
    assert!(nothing.is_ready());
    let cancelled = sequence.begin(vec![1], read, say("cancelled")).unwrap();
    gate.enter();
    drop(cancelled);
    let mut other = engine.sequence().unwrap();
    let panics = other.begin(vec![1], read, Some(Arc::new(|| panic!("on purpose")))).unwrap();
    let last = sequence.begin(vec![2], read, say("last")).unwrap();
    gate.leave();
    gate.enter();
    gate.leave();
    assert_eq!(calls.recv(), Ok("last"));
    assert!(last.is_ready());
    sequence.complete(last).unwrap();
    other.complete(panics).unwrap();
    // A callback may be the last that holds the engine.
    let (alive, gone) = mpsc::channel::<()>();
    let (go, may_go) = mpsc::channel();
    let held = Mutex::new(Some((may_go, engine.clone(), alive)));
    let notify = move || {
        let (may_go, ..) = held.lock().unwrap().take().unwrap();
        may_go.recv().unwrap();
    };
    let pending = sequence.begin(vec![3], read, Some(Arc::new(notify))).unwrap();
    drop(gate);
    pending.wait();
    drop((pending, sequence, other, engine));
    go.send(()).unwrap();
    gone.recv().unwrap_err();
}

/// Whatever is cancelled whenever, caller and worker agree on what the sequence is.
#[test]
fn cancelling_and_completing_may_race() {
    let (engine, _) = engine(24, 40);
    thread::scope(|scope| {
        for seed in 0..6 {
            let engine = &engine;
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed);
                let mut sequence = engine.sequence().unwrap();
                let mut tokens = Vec::new();
                for _ in 0..300 {
                    let ids: Vec<i64> = (0..rng.random_range(1..60)).map(|_| rng.random_range(0..1000)).collect();
                    if tokens.len() + ids.len() > 200 {
                        tokens.truncate(rng.random_range(0..tokens.len()));
                        sequence.cut(tokens.len()).unwrap();
                    }
                    let pending = begin(&mut sequence, &ids);
                    let deadline = Instant::now() + Duration::from_micros(rng.random_range(0..200));
                    let result = match rng.random_range(0..4) {
                        0 => continue,
                        1 => {
                            pending.wait_until(deadline);
                            continue;
                        }
                        2 => sequence.complete_by(pending, deadline),
                        _ => sequence.complete(pending),
                    };
                    match result {
                        Ok(logits) => {
                            tokens.extend(&ids);
                            check(&tokens, ids.len(), &logits);
                        }
                        Err(error) => assert!(matches!(error, Error::DeadlineExceeded), "{error}"),
                    }
                    assert_eq!(sequence.len(), tokens.len());
                }
            });
        }
    });
}

#[test]
fn equal_prefixes_are_computed_once() {
    let (engine, counters) = engine(64, 50);
    let computed = || counters.tokens.swap(0, Ordering::Relaxed);
    let prompt: Vec<i64> = (0..200).collect();
    let mut first = engine.sequence().unwrap();
    let pending = begin(&mut first, &prompt);
    check(&prompt, 200, &first.complete(pending).unwrap());
    assert_eq!(computed(), 200);
    // Only what comes before the first token that is read may be reused, in whole blocks.
    let ask = |tokens: &[i64], from: usize| {
        let mut sequence = engine.sequence().unwrap();
        let ids = tokens.iter().map(|id| *id as u32).collect();
        let logits = sequence.append(ids, response(from)).unwrap();
        check(tokens, tokens.len() - from, &logits);
        sequence
    };
    let kept = ask(&prompt, 199);
    assert_eq!(computed(), 200 - 192);
    ask(&prompt, 64);
    assert_eq!(computed(), 200 - 64);
    ask(&prompt, 63);
    assert_eq!(computed(), 200 - 32);
    ask(&prompt[..192], 191);
    assert_eq!(computed(), 192 - 160);
    let mut other = prompt.clone();
    other[40] = 1000;
    ask(&other, 199);
    assert_eq!(computed(), 200 - 32);
    // The same ids behind another block are another prefix.
    ask(&prompt[32..], 167);
    assert_eq!(computed(), 168);
    drop((first, kept));
    ask(&prompt, 199);
    assert_eq!(computed(), 200 - 192, "found though nobody uses it");
}

#[test]
fn cached_blocks_go_longest_unused_first_and_from_the_end() {
    let (engine, counters) = engine(8, 500);
    let computed = || counters.tokens.swap(0, Ordering::Relaxed);
    let ids = |seed: u32, count: u32| -> Vec<u32> { (0..count).map(|i| seed * 1000 + i).collect() };
    let ask = |seed: u32, count: u32| {
        let mut sequence = engine.sequence().unwrap();
        sequence.append(ids(seed, count), response(count as usize - 1)).unwrap();
    };
    ask(1, 4 * 32);
    ask(2, 4 * 32);
    assert_eq!(computed(), 256);
    ask(3, 2 * 32);
    assert_eq!(computed(), 64);
    ask(2, 4 * 32);
    assert_eq!(computed(), 32, "the youngest stays");
    ask(1, 4 * 32);
    assert_eq!(computed(), 96, "of the oldest, the beginning stays");
}

/// Any operations in any order on few distinct texts, in a cache that is too small: every logit is right.
#[test]
fn sharing_and_evicting_change_no_result() {
    for (seed, blocks) in [(0, 64), (1, 20), (2, 9)] {
        let (engine, _) = start(blocks, Limits { step_tokens: 40, max_sequences: 9, ..LIMITS }, None);
        // Where the cache is to be too small every thread has a stream of its own all the time, of 8 blocks: with three of
        // them some are evicted, whatever else comes in between.
        let held = Barrier::new(3);
        thread::scope(|scope| {
            for thread in 0..3 {
                let (engine, held) = (&engine, &held);
                scope.spawn(move || {
                    let (mut sequence, mut tokens) = (engine.sequence().unwrap(), Vec::new());
                    let count = if blocks < 64 { 250 } else { 0 };
                    append(&mut sequence, &mut tokens, 10 + thread as u32, count);
                    held.wait();
                    work_at_random(engine, &mut SmallRng::seed_from_u64(seed * 10 + thread));
                    append(&mut sequence, &mut tokens, 10 + thread as u32, 5);
                });
            }
        });
        let stats = stats_when(&engine, |stats| stats.cache_used_bytes == 0);
        if blocks < 64 {
            assert!(stats.evictions > 0 && stats.recomputed_tokens > 0, "{stats:?}");
        } else {
            assert!(stats.evictions == 0 && stats.prefix_hit_tokens > 0, "{stats:?}");
        }
        // Nothing is lost: one stream gets all of it.
        append(&mut engine.sequence().unwrap(), &mut Vec::new(), 9, (blocks * BLOCK).min(1000));
    }
}

fn work_at_random(engine: &Arc<Engine>, rng: &mut SmallRng) {
    let mut sequences: Vec<(Sequence, Vec<i64>)> = Vec::new();
    for _ in 0..800 {
        let operation = if sequences.is_empty() { 0 } else { rng.random_range(0..10) };
        let chosen = rng.random_range(0..sequences.len().max(1));
        match operation {
            0 if sequences.len() < 2 => sequences.push((engine.sequence().unwrap(), Vec::new())),
            1 if sequences.len() < 2 => {
                let (parent, tokens) = &sequences[chosen];
                sequences.push((parent.fork().unwrap(), tokens.clone()));
            }
            0..=2 => drop(sequences.swap_remove(chosen)),
            3 => {
                let (sequence, tokens) = &mut sequences[chosen];
                tokens.truncate(rng.random_range(0..=tokens.len()));
                sequence.cut(tokens.len()).unwrap();
            }
            _ => {
                let (sequence, tokens) = &mut sequences[chosen];
                let before = tokens.len();
                let count = rng.random_range(0..80).min(256 - before);
                // Two texts that go the same ways again and again.
                let text = rng.random_range(0..2);
                tokens.extend((before..before + count).map(|at| text * 1000 + at as i64));
                let from = rng.random_range(0..=count);
                let ids = tokens[before..].iter().map(|id| *id as u32).collect();
                let pending = sequence.begin(ids, response(from), None).unwrap();
                if operation == 4 {
                    tokens.truncate(before);
                } else {
                    check(tokens, count - from, &sequence.complete(pending).unwrap());
                }
            }
        }
    }
}

#[test]
fn statistics_show_what_waits_while_a_step_runs() {
    let (engine, gate) = gated_engine(64);
    let mut first = engine.sequence().unwrap();
    let mut second = engine.sequence().unwrap();
    let long = begin(&mut first, &[1; 70]);
    gate.enter();
    let short = begin(&mut second, &[2; 3]);
    let stats = engine.stats();
    assert_eq!((stats.open_streams, stats.waiting_streams, stats.queued_tokens, stats.steps), (2, 2, 73, 0));
    assert!(stats.oldest_wait_seconds > 0.0);
    gate.leave();
    gate.enter();
    let stats = engine.stats();
    assert_eq!((stats.waiting_streams, stats.queued_tokens, stats.steps, stats.tokens), (2, 23, 1, 50));
    assert_eq!(stats.queue_seconds.count(), 2);
    gate.leave();
    first.complete(long).unwrap();
    second.complete(short).unwrap();
    let stats = engine.stats();
    assert_eq!((stats.waiting_streams, stats.queued_tokens, stats.oldest_wait_seconds), (0, 0, 0.0));
    assert_eq!((stats.steps, stats.tokens, stats.step_seconds.count()), (2, 73, 2));
    assert_eq!((stats.step_tokens.sum, stats.step_streams.sum), (73.0, 3.0));
    assert_eq!(stats.cache_bytes, 64 * 100);
    stats_when(&engine, |stats| stats.cache_used_bytes == 4 * 100);
    drop((first, second));
    let stats = stats_when(&engine, |stats| stats.cache_used_bytes == 0);
    assert_eq!((stats.open_streams, stats.cache_unused_bytes), (0, 2 * 100));
}

#[test]
fn statistics_count_what_goes_wrong() {
    let (engine, counters) = engine(4, 200);
    let (mut first, mut second) = (engine.sequence().unwrap(), engine.sequence().unwrap());
    let (mut tokens, mut others) = (Vec::new(), Vec::new());
    append(&mut first, &mut tokens, 1, 3 * BLOCK);
    append(&mut second, &mut others, 2, 3 * BLOCK);
    let stats = engine.stats();
    assert_eq!((stats.evictions, stats.prefix_hit_tokens, stats.recomputed_tokens), (1, 0, 0));
    // One block of the first is still there.
    append(&mut first, &mut tokens, 1, 1);
    let stats = engine.stats();
    assert_eq!((stats.evictions, stats.prefix_hit_tokens, stats.recomputed_tokens), (2, 32, 64));
    counters.fail.store(true, Ordering::Relaxed);
    first.append(vec![1], response(0)).unwrap_err();
    let stats = engine.stats();
    assert_eq!((stats.failed_steps, stats.queued_tokens, stats.waiting_streams), (1, 0, 0));
}

/// A step that fails or panics fails the streams in it; the others do not notice.
#[test]
fn a_failed_step_fails_only_the_streams_in_it() {
    let (engine, gate) = gated_engine(64);
    let (mut first, mut second) = (engine.sequence().unwrap(), engine.sequence().unwrap());
    let fails = begin(&mut first, &[1, UNKNOWN]);
    gate.enter();
    let works = begin(&mut second, &[3, 4]);
    drop(gate);
    assert!(first.complete(fails).unwrap_err().to_string().contains("panicked"));
    check(&[3, 4], 2, &second.complete(works).unwrap());
    check(&[1], 1, &first.append(vec![1], response(0)).unwrap());
}

#[test]
fn a_long_prompt_delays_others_by_one_slice() {
    let (engine, gate) = gated_engine(64);
    let mut first = engine.sequence().unwrap();
    let mut others = [engine.sequence().unwrap(), engine.sequence().unwrap()];
    let long = begin(&mut first, &(0..900).collect::<Vec<_>>());
    assert_eq!(gate.enter(), [50]);
    let mut running = None;
    for step in 0..18 {
        let pushed = begin(&mut others[step % 2], &[1, 2, 3]);
        gate.leave();
        let mut slices = gate.enter();
        slices.sort_unstable();
        assert_eq!(slices, [3, 47]);
        if let Some(pending) = running.replace(pushed) {
            others[(step + 1) % 2].complete(pending).unwrap();
        }
    }
    drop(gate);
    first.complete(long).unwrap();
}

#[test]
fn a_batch_is_in_one_step() {
    let (engine, gate) = gated_engine(64);
    let mut streams: Vec<_> = (0..8).map(|_| engine.sequence().unwrap()).collect();
    for _ in 0..20 {
        let mut batch = Batch::default();
        let begun: Vec<_> = streams.iter_mut().map(|stream| begin_in(stream, &[5, 6], &mut batch)).collect();
        drop(batch);
        assert_eq!(gate.enter(), [2; 8]);
        gate.leave();
        for (stream, pending) in streams.iter_mut().zip(begun) {
            stream.complete(pending).unwrap();
        }
    }
    // A batch that is dropped in a panic is sent.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut batch = Batch::default();
        drop(begin_in(&mut streams[0], &[1], &mut batch));
        panic!("in the middle");
    }));
    assert!(panicked.is_err());
    drop(gate);
    let pending = begin(&mut streams[1], &[7]);
    streams[1].complete(pending).unwrap();
}

#[test]
fn a_steady_flow_of_short_work_does_not_starve_a_long_prompt() {
    for blocks in [64, 18] {
        let (engine, gate) = gated_engine(blocks);
        let mut streams: Vec<_> = (0..7).map(|_| engine.sequence().unwrap()).collect();
        let mut pushes: Vec<_> = streams.iter_mut().map(|stream| begin(stream, &[1; BLOCK])).collect();
        let mut first = engine.sequence().unwrap();
        gate.enter();
        let long = begin(&mut first, &(0..500).collect::<Vec<_>>());
        let mut steps = 0;
        while !long.is_ready() {
            for (stream, push) in streams.iter_mut().zip(&mut pushes) {
                if push.is_ready() {
                    stream.cut(0).unwrap();
                    *push = begin(stream, &[1; BLOCK]);
                }
            }
            gate.leave();
            assert!(gate.enter().iter().sum::<usize>() > 40, "the long prompt takes a share, not all");
            steps += 1;
        }
        // A share is 12 of 50 tokens, and short pushes have the first eight steps.
        assert!((500 / 50 + 8..=500 / 12 + 10).contains(&steps), "{steps} steps");
        drop(gate);
    }
}

#[test]
fn too_many_waiting_tokens_are_busy_at_once() {
    let ((enter, entered), (leave, left)) = (mpsc::channel(), mpsc::channel());
    let (engine, _) = start(64, Limits { max_queued_tokens: 100, ..LIMITS }, Some((enter, left)));
    let gate = Gate { entered, leave };
    let (mut first, mut second) = (engine.sequence().unwrap(), engine.sequence().unwrap());
    // More than the limit, but nothing waits.
    let long = begin(&mut first, &[1; 140]);
    gate.enter();
    let read = response(0);
    let error = second.begin(vec![1], read, None).err().unwrap();
    assert!(matches!(error, Error::Busy { limit: 100, .. }), "{error}");
    gate.leave();
    gate.enter();
    let short = second.begin(vec![1; 10], read, None).unwrap();
    assert!(matches!(second.begin(vec![1; 11], read, None), Err(Error::Busy { .. })));
    drop(gate);
    first.complete(long).unwrap();
    // A refused call has not touched the one before it.
    second.complete(short).unwrap();
    // It passes with time, however much it is.
    let refused = second.append(vec![1; 140], read);
    refused.unwrap();
}

#[test]
fn an_idle_stream_expires_and_says_so() {
    let (engine, _) = start(64, Limits { idle: Some(Duration::from_nanos(1)), ..LIMITS }, None);
    let read = response(0);
    let mut sequence = engine.sequence().unwrap();
    let mut fork = sequence.fork();
    stats_when(&engine, |stats| stats.expired_streams as usize == stats.open_streams);
    for error in
        [sequence.append(vec![1], read).err().unwrap(), sequence.cut(0).err().unwrap(), sequence.fork().err().unwrap()]
    {
        assert!(matches!(error, Error::Expired { .. }) && error.to_string().contains("open a new stream"), "{error}");
    }
    if let Ok(fork) = &mut fork {
        assert!(matches!(fork.append(vec![1], read), Err(Error::Expired { .. })));
    }
    drop((sequence, fork));
    assert_eq!(engine.stats().open_streams, 0);

    let (engine, _) = start(64, Limits { idle: Some(Duration::MAX), ..LIMITS }, None);
    append(&mut engine.sequence().unwrap(), &mut Vec::new(), 1, 100);
}
