//! Kernels against the oracle, on random ragged batches over a paged cache in poisoned memory.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    Attention, Heads,
    cache::{BLOCK, CacheFormat},
    contract::{CachePools, Kernel, OutputRows},
    kernels::kernel,
    reference::Sequence,
};
use crate::model::cpu_ops::isa::Isa;

/// Miri runs the same tests on less.
const POSITIONS: usize = if cfg!(miri) { 40 } else { 200 };
const STREAMS: usize = if cfg!(miri) { 2 } else { 4 };

/// A layer and several whole sequences for it.
struct Case {
    heads: Heads,
    format: CacheFormat,
    cos: Vec<f32>,
    sin: Vec<f32>,
    q_norm: Vec<f32>,
    k_norm: Vec<f32>,
    sequences: Vec<Vec<f32>>,
}

/// A paged cache with everything that no token was stored in poisoned: any use of it shows as NaN.
struct Cache {
    keys: Vec<u8>,
    values: Vec<u8>,
    num_blocks: usize,
    tables: Vec<Vec<i32>>,
    past: Vec<usize>,
}

fn random(rng: &mut SmallRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-2.0..2.0)).collect()
}

impl Case {
    fn new(rng: &mut SmallRng, heads: Heads, format: CacheFormat) -> Self {
        let angles = random(rng, POSITIONS * heads.dim / 2);
        let lens = (0..STREAMS).map(|_| rng.random_range(1..=POSITIONS)).collect::<Vec<_>>();
        Case {
            heads,
            format,
            cos: angles.iter().map(|angle| angle.cos()).collect(),
            sin: angles.iter().map(|angle| angle.sin()).collect(),
            q_norm: random(rng, heads.dim),
            k_norm: random(rng, heads.dim),
            sequences: lens.iter().map(|len| random(rng, len * heads.packed_width())).collect(),
        }
    }

    fn len(&self, stream: usize) -> usize {
        self.sequences[stream].len() / self.heads.packed_width()
    }

    fn expected(&self, stream: usize) -> Vec<f64> {
        let sequence = Sequence {
            heads: self.heads,
            scale: 1.0 / (self.heads.dim as f32).sqrt(),
            epsilon: 1e-6,
            qkv: &self.sequences[stream],
            cos: &self.cos,
            sin: &self.sin,
            q_norm: &self.q_norm,
            k_norm: &self.k_norm,
            format: self.format,
        };
        sequence.attend()
    }

    /// Blocks in random order, and some that nobody owns.
    fn cache(&self, rng: &mut SmallRng) -> Cache {
        let per_stream = POSITIONS.div_ceil(BLOCK);
        let num_blocks = STREAMS * per_stream + 3;
        let mut blocks: Vec<i32> = (0..num_blocks as i32).collect();
        for i in (1..blocks.len()).rev() {
            blocks.swap(i, rng.random_range(0..=i));
        }
        let bytes = num_blocks * self.heads.kv * self.format.record_bytes(self.heads.dim);
        Cache {
            // All ones is NaN as f32.
            keys: vec![0xFF; bytes],
            values: vec![0xFF; bytes],
            num_blocks,
            tables: blocks.chunks(per_stream).take(STREAMS).map(<[i32]>::to_vec).collect(),
            past: vec![0; STREAMS],
        }
    }

    /// Runs one step: `counts[s]` next tokens of each stream.
    fn step(&self, isa: Isa, cache: &mut Cache, counts: &[usize]) -> Vec<Vec<f32>> {
        let width = self.heads.packed_width();
        let mut qkv = Vec::new();
        let mut cu_seqlens = vec![0];
        for (stream, count) in counts.iter().enumerate() {
            let past = cache.past[stream];
            qkv.extend_from_slice(&self.sequences[stream][past * width..(past + count) * width]);
            cu_seqlens.push((qkv.len() / width) as i32);
        }
        let past_lens: Vec<i32> = cache.past.iter().map(|past| *past as i32).collect();
        let attention = Attention {
            heads: self.heads,
            scale: 1.0 / (self.heads.dim as f32).sqrt(),
            epsilon: 1e-6,
            qkv: &qkv,
            cu_seqlens: &cu_seqlens,
            past_lens: &past_lens,
            block_table: &cache.tables.concat(),
            table_width: cache.tables[0].len(),
            cos: &self.cos,
            sin: &self.sin,
            q_norm: &self.q_norm,
            k_norm: &self.k_norm,
            num_blocks: cache.num_blocks,
            format: self.format,
        };
        attention.validate().unwrap();
        let row = self.heads.query * self.heads.dim;
        let mut output = vec![f32::NAN; attention.tokens() * row];
        let pools = CachePools { keys: cache.keys.as_mut_ptr(), values: cache.values.as_mut_ptr() };
        let rows = OutputRows(output.as_mut_ptr());
        for task in (0..Kernel::tasks(&attention)).rev() {
            // SAFETY: validated; the buffers have the documented sizes and nobody else uses them.
            unsafe { kernel(isa).run_task(&attention, pools, rows, task) };
        }
        for (past, count) in cache.past.iter_mut().zip(counts) {
            *past += count;
        }
        let ends: Vec<usize> = cu_seqlens.iter().map(|end| *end as usize * row).collect();
        ends.windows(2).map(|ends| output[ends[0]..ends[1]].to_vec()).collect()
    }

    /// Runs all sequences to their ends in steps of at most `most` tokens a stream.
    fn run(&self, rng: &mut SmallRng, isa: Isa, most: usize) -> Vec<Vec<f32>> {
        let mut cache = self.cache(rng);
        let mut outputs = vec![Vec::new(); STREAMS];
        while (0..STREAMS).any(|stream| cache.past[stream] < self.len(stream)) {
            let counts: Vec<usize> = (0..STREAMS)
                .map(|stream| rng.random_range(0..=most).min(self.len(stream) - cache.past[stream]))
                .collect();
            for (output, new) in outputs.iter_mut().zip(self.step(isa, &mut cache, &counts)) {
                output.extend(new);
            }
        }
        outputs
    }
}

fn shapes() -> Vec<Heads> {
    let mut shapes = vec![Heads { query: 4, kv: 2, dim: 16 }, Heads { query: 3, kv: 1, dim: 8 }];
    if !cfg!(miri) {
        shapes.extend([
            Heads { query: 16, kv: 8, dim: 128 },
            Heads { query: 2, kv: 2, dim: 64 },
            Heads { query: 8, kv: 2, dim: 48 },
            Heads { query: 8, kv: 1, dim: 24 },
        ]);
    }
    shapes
}

const FORMATS: [CacheFormat; 2] = [CacheFormat::Fp32, CacheFormat::Int8];

fn largest_difference<'a>(a: impl IntoIterator<Item = &'a f32>, b: impl IntoIterator<Item = f64>) -> f64 {
    let errors = a.into_iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs());
    errors.fold(0.0, |worst, error| if error > worst || error.is_nan() { error } else { worst })
}

/// Compares every kernel with the oracle.
fn check(rng: &mut SmallRng, case: &Case) {
    for isa in Isa::available() {
        for (stream, output) in case.run(rng, isa, 70).iter().enumerate() {
            let expected = case.expected(stream);
            assert_eq!(output.len(), expected.len());
            let worst = largest_difference(output, expected);
            // int8: a key or value at the edge of two steps may round to the other one in f32.
            let limit = if case.format == CacheFormat::Fp32 { 2e-5 } else { 5e-3 };
            assert!(worst < limit, "{} {:?} {:?}: off by {worst}", isa.name(), case.format, case.heads);
        }
    }
}

#[test]
fn kernels_agree_with_the_oracle() {
    let mut rng = SmallRng::seed_from_u64(1);
    for format in FORMATS {
        for heads in shapes() {
            let case = Case::new(&mut rng, heads, format);
            check(&mut rng, &case);
        }
    }
    if !cfg!(miri) {
        // More values than integer sums have room for.
        let heads = Heads { query: 1, kv: 1, dim: 1040 };
        let case = Case::new(&mut rng, heads, CacheFormat::Int8);
        check(&mut rng, &case);
    }
}

/// Keys and values of 127 and -127 only, queries at the ends of their range, and whole keys and values of zero.
#[test]
fn extremes_do_not_saturate() {
    let mut rng = SmallRng::seed_from_u64(5);
    for heads in shapes() {
        let mut case = Case::new(&mut rng, heads, CacheFormat::Int8);
        case.cos.fill(1.0);
        case.sin.fill(0.0);
        case.q_norm.fill(0.1);
        case.k_norm.fill(1.0);
        for sequence in &mut case.sequences {
            for head in sequence.chunks_mut(heads.dim) {
                match rng.random_range(0..4) {
                    0 => head.fill(0.0),
                    1 => head.fill(1.0),
                    2 => head.fill(-1.0),
                    _ => head.fill_with(|| if rng.random() { 1.0 } else { -1.0 }),
                }
            }
        }
        check(&mut rng, &case);
    }
}

/// The cache has the same bits with every kernel: what differs is the rounding of queries and weights.
#[test]
fn two_terms_lose_less_than_the_cache() {
    let mut rng = SmallRng::seed_from_u64(6);
    for heads in shapes() {
        let case = Case::new(&mut rng, heads, CacheFormat::Int8);
        let exact = case.run(&mut rng, Isa::PORTABLE, 70);
        for isa in Isa::available() {
            let found = case.run(&mut rng, isa, 70);
            let worst = largest_difference(found.iter().flatten(), exact.iter().flatten().map(|x| f64::from(*x)));
            assert!(worst < 3e-4, "{} {heads:?}: off by {worst}", isa.name());
        }
    }
}

/// Products are exact and everything else is the same code: only the portable kernel, which computes in f32, may differ.
#[test]
fn vector_kernels_agree_on_every_bit() {
    let mut rng = SmallRng::seed_from_u64(7);
    for heads in shapes() {
        let case = Case::new(&mut rng, heads, CacheFormat::Int8);
        let results: Vec<_> = Isa::available()[1..].iter().map(|isa| case.run(&mut rng, *isa, 70)).collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{heads:?}");
    }
}

/// Whatever a row shares its tile, task or batch with.
#[test]
fn chunked_and_single_tokens_give_the_same_bits() {
    let mut rng = SmallRng::seed_from_u64(2);
    for format in FORMATS {
        for heads in shapes() {
            let case = Case::new(&mut rng, heads, format);
            for isa in Isa::available() {
                let whole = case.run(&mut rng, isa, POSITIONS);
                for most in [1, 7, 50] {
                    assert_eq!(case.run(&mut rng, isa, most), whole, "{} {format:?} {heads:?}", isa.name());
                }
                let mut counts = [0; STREAMS];
                counts[1] = case.len(1);
                let alone = case.step(isa, &mut case.cache(&mut rng), &counts);
                assert_eq!(alone[1], whole[1], "{} {format:?} {heads:?}", isa.name());
            }
        }
    }
}

/// A row depends on no token after its own: not even on one that is not a number.
#[test]
fn what_is_not_finite_spoils_later_rows_only() {
    let mut rng = SmallRng::seed_from_u64(8);
    for format in FORMATS {
        for heads in shapes() {
            let mut case = Case::new(&mut rng, heads, format);
            case.sequences = vec![random(&mut rng, 40 * heads.packed_width()); STREAMS];
            let row = heads.query * heads.dim;
            // A query, key and value head, each the first of its kind.
            for (kind, head) in [0, heads.query, heads.query + heads.kv].into_iter().enumerate() {
                for isa in Isa::available() {
                    let whole = case.run(&mut rng, isa, 40);
                    let mut spoilt = case.sequences.clone();
                    let token = 35;
                    let bad = [f32::NAN, f32::INFINITY][rng.random_range(0..2)];
                    spoilt[1][token * heads.packed_width() + head * heads.dim + 3] = bad;
                    let good = std::mem::replace(&mut case.sequences, spoilt);
                    let found = case.run(&mut rng, isa, 40);
                    case.sequences = good;
                    let context = format!("{} {format:?} {heads:?}, head {kind}, {bad}", isa.name());
                    assert_eq!(found[0], whole[0], "{context}");
                    assert_eq!(found[1][..token * row], whole[1][..token * row], "{context}");
                    assert!(found[1][token * row..].iter().any(|x| !x.is_finite()), "{context}");
                    if kind == 0 {
                        assert_eq!(found[1][(token + 1) * row..], whole[1][(token + 1) * row..], "{context}");
                    }
                }
            }
        }
    }
}

#[test]
fn int8_is_close_to_fp32() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut case = Case::new(&mut rng, Heads { query: 4, kv: 2, dim: 64 }, CacheFormat::Fp32);
    let exact = case.run(&mut rng, Isa::detect(), 64);
    case.format = CacheFormat::Int8;
    let coarse = case.run(&mut rng, Isa::detect(), 64);
    let (mut error, mut total) = (0.0, 0.0);
    for (a, b) in exact.iter().flatten().zip(coarse.iter().flatten()) {
        error += f64::from(a - b).powi(2);
        total += f64::from(*a).powi(2);
    }
    let relative = (error / total).sqrt();
    assert!(relative > 0.0 && relative < 0.02, "{relative}");
}

#[test]
fn streams_may_share_blocks_that_nobody_writes() {
    let mut rng = SmallRng::seed_from_u64(4);
    let mut case = Case::new(&mut rng, shapes()[0], CacheFormat::Int8);
    case.sequences = vec![random(&mut rng, POSITIONS.min(2 * BLOCK + 8) * case.heads.packed_width()); STREAMS];
    let expected = case.run(&mut rng, Isa::PORTABLE, POSITIONS);
    let mut cache = case.cache(&mut rng);
    let mut counts = [0; STREAMS];
    counts[0] = BLOCK;
    case.step(Isa::PORTABLE, &mut cache, &counts);
    for stream in 1..STREAMS {
        cache.tables[stream][0] = cache.tables[0][0];
        cache.past[stream] = BLOCK;
    }
    let rest = case.step(Isa::PORTABLE, &mut cache, &[case.len(0) - BLOCK; STREAMS]);
    for (rest, expected) in rest.iter().zip(&expected) {
        assert_eq!(rest[..], expected[expected.len() - rest.len()..]);
    }
}

#[test]
fn bad_batches_are_refused() {
    let heads = Heads { query: 2, kv: 1, dim: 8 };
    let (qkv, angles, norm) = (vec![0.0; 3 * heads.packed_width()], vec![0.0; 64 * 4], vec![1.0; 8]);
    let good = Attention {
        heads,
        scale: 1.0,
        epsilon: 1e-6,
        qkv: &qkv,
        cu_seqlens: &[0, 1, 3],
        past_lens: &[31, 0],
        block_table: &[0, 9, 1, 9],
        table_width: 2,
        cos: &angles,
        sin: &angles,
        q_norm: &norm,
        k_norm: &norm,
        num_blocks: 2,
        format: CacheFormat::Fp32,
    };
    good.validate().unwrap();
    let bad = [
        ("does not exist", Attention { past_lens: &[32, 0], ..good }),
        ("does not exist", Attention { block_table: &[-1, 0, 1, 0], ..good }),
        ("while another", Attention { block_table: &[0, 9, 0, 9], ..good }),
        ("negative", Attention { past_lens: &[31, -1], ..good }),
        ("position", Attention { past_lens: &[31, 63], ..good }),
        ("partition", Attention { cu_seqlens: &[0, 2, 1], ..good }),
        ("partition", Attention { cu_seqlens: &[0, 1, 2], ..good }),
        ("negative", Attention { cu_seqlens: &[0, -1, 3], ..good }),
        ("disagree", Attention { block_table: &[0, 1], ..good }),
        ("wrong size", Attention { q_norm: &norm[..4], ..good }),
        ("multiple", Attention { qkv: &qkv[1..], ..good }),
    ];
    for (reason, attention) in bad {
        let error = attention.validate().unwrap_err();
        assert!(error.contains(reason), "{error}, expected {reason}");
    }
}

#[test]
fn a_zero_key_is_stored_as_zero() {
    let mut record = vec![0xFF; CacheFormat::Int8.record_bytes(8)];
    CacheFormat::Int8.store_key(&mut record, 5, &[0.0; 8]);
    let mut keys = vec![f32::NAN; 8 * BLOCK];
    CacheFormat::expand_keys(&record, 8, &mut keys);
    assert!((0..8).all(|channel| keys[channel * 16 + 5] == 0.0));
}
