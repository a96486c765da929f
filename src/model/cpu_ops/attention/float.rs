//! Attention in f32, for every processor. int8 blocks are turned into fp32 ones first.

use super::{
    arithmetic::{Arithmetic, Records, Scratch, Strip, prefetch},
    cache::{BLOCK, CacheFormat, LANES},
};

/// `FUSED`: whether the processor multiplies and adds at once; without, compilers would call a slow function.
pub(super) struct Float<const FUSED: bool>;

impl<const FUSED: bool> Arithmetic for Float<FUSED> {
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn set_query(query: &[f32], to: *mut u8) -> (f32, i32) {
        // SAFETY: the promises of `Arithmetic`.
        unsafe { to.cast::<f32>().copy_from_nonoverlapping(query.as_ptr(), query.len()) };
        (1.0, 0)
    }

    #[inline(always)]
    unsafe fn open(format: CacheFormat, records: Records, dim: usize, scratch: &mut Scratch) -> Records {
        match format {
            CacheFormat::Fp32 => records,
            CacheFormat::Int8 => {
                let bytes = format.record_bytes(dim);
                // SAFETY: the promises of `Arithmetic`.
                let (keys, values) = unsafe {
                    (std::slice::from_raw_parts(records.keys, bytes), std::slice::from_raw_parts(records.values, bytes))
                };
                scratch.keys.resize(BLOCK * dim, 0.0);
                scratch.values.resize(BLOCK * dim, 0.0);
                CacheFormat::expand_keys(keys, dim, &mut scratch.keys);
                CacheFormat::expand_values(values, dim, &mut scratch.values);
                Records { keys: scratch.keys.as_ptr().cast(), values: scratch.values.as_ptr().cast() }
            }
        }
    }

    #[inline(always)]
    unsafe fn scores<const ROWS: usize>(strip: &Strip, scores: &mut [[f32; BLOCK]; ROWS]) {
        let keys = strip.records.keys.cast::<[f32; LANES]>();
        for half in 0..BLOCK / LANES {
            let mut sums = [[0.0; LANES]; ROWS];
            for channel in 0..strip.dim {
                let at = half * strip.dim + channel;
                prefetch(strip.ahead.keys.wrapping_add(at * size_of::<[f32; LANES]>()));
                // SAFETY: the promises of `Strip`.
                let keys = unsafe { keys.add(at).read_unaligned() };
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: as above.
                    let query = unsafe { *strip.query(row).cast::<f32>().add(channel) };
                    add_product::<FUSED, LANES>(query, &keys, sums);
                }
            }
            for (scores, sums) in scores.iter_mut().zip(&sums) {
                scores[half * LANES..][..LANES].copy_from_slice(sums);
            }
        }
    }

    #[inline(always)]
    unsafe fn add_values<const ROWS: usize>(strip: &Strip, weights: &[[f32; BLOCK]; ROWS], shrinks: &[f32; ROWS]) {
        let mut channel = 0;
        // SAFETY: the caller's promises.
        unsafe {
            while channel + 32 <= strip.dim {
                add_channels::<FUSED, ROWS, 32>(strip, weights, shrinks, channel);
                channel += 32;
            }
            while channel < strip.dim {
                add_channels::<FUSED, ROWS, 8>(strip, weights, shrinks, channel);
                channel += 8;
            }
        }
    }
}

/// Adds the weighted values of `WIDTH` channels to the strip's sums.
#[inline(always)]
unsafe fn add_channels<const FUSED: bool, const ROWS: usize, const WIDTH: usize>(
    strip: &Strip,
    weights: &[[f32; BLOCK]; ROWS],
    shrinks: &[f32; ROWS],
    channel: usize,
) {
    let mut sums = [[0.0; WIDTH]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the promises of `Strip`.
        *sums = unsafe { strip.sums(row).add(channel).cast::<[f32; WIDTH]>().read() };
        for sum in sums {
            *sum *= shrinks[row];
        }
    }
    // Beyond `seen` there may be anything, and a weight of zero would not keep it out.
    for token in 0..strip.seen {
        let at = (token * strip.dim + channel) * size_of::<f32>();
        prefetch(strip.ahead.values.wrapping_add(at));
        prefetch(strip.ahead.values.wrapping_add(at + 64));
        // SAFETY: the promises of `Strip`.
        let values = unsafe { strip.records.values.add(at).cast::<[f32; WIDTH]>().read_unaligned() };
        for (sums, weights) in sums.iter_mut().zip(weights) {
            add_product::<FUSED, WIDTH>(weights[token], &values, sums);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: the promises of `Strip`.
        unsafe { strip.sums(row).add(channel).cast::<[f32; WIDTH]>().write(*sums) };
    }
}

#[inline(always)]
fn add_product<const FUSED: bool, const WIDTH: usize>(factor: f32, values: &[f32; WIDTH], sums: &mut [f32; WIDTH]) {
    for lane in 0..WIDTH {
        sums[lane] = if FUSED { factor.mul_add(values[lane], sums[lane]) } else { sums[lane] + factor * values[lane] };
    }
}
