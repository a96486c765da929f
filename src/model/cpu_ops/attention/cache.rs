//! How keys and values lie in the paged cache.
//!
//! A layer has two pools, `[num_blocks, kv_heads, record_bytes]`: one of keys, one of values. A record holds
//! [`BLOCK`] tokens of one KV head, so that a task reads memory in one direction.
//!
//! | format | key record | value record |
//! |---|---|---|
//! | int8 | `u8 [2][dim/4][16 tokens][4]`, offset 128, then 32 scales | `i8 [8][dim][4 tokens]`, then 32 scales |
//! | fp32 | `f32 [2][dim][16 tokens]` | `f32 [32][dim]` |
//!
//! The int8 orders are those that 8-bit dot-product instructions want: four neighbours along the summed axis (channels
//! for keys, tokens for values) make one 32-bit lane, and sixteen lanes one register. Scales are f32, one per token.

use crate::model::cpu_ops::rounding::{level, unit_of};

/// Tokens in a block.
pub(crate) const BLOCK: usize = 32;

/// Tokens that one vector register of scores covers.
pub(super) const LANES: usize = 16;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheFormat {
    /// f32, exact.
    Fp32,
    /// 8-bit integers with one scale per token and head, symmetric.
    Int8,
}

impl CacheFormat {
    /// Bytes of one record; keys and values take the same.
    pub(crate) fn record_bytes(self, dim: usize) -> usize {
        match self {
            CacheFormat::Fp32 => BLOCK * dim * size_of::<f32>(),
            CacheFormat::Int8 => BLOCK * (dim + size_of::<f32>()),
        }
    }

    /// The format whose records have this size.
    pub(crate) fn from_record_bytes(bytes: usize, dim: usize) -> Option<Self> {
        [CacheFormat::Fp32, CacheFormat::Int8].into_iter().find(|format| format.record_bytes(dim) == bytes)
    }

    /// Stores the key of the token at `slot` of a block.
    #[inline(always)]
    pub(crate) fn store_key(self, record: &mut [u8], slot: usize, key: &[f32]) {
        let (half, lane) = (slot / LANES, slot % LANES);
        match self {
            CacheFormat::Fp32 => {
                let columns = &mut record[half * key.len() * LANES * 4..][..key.len() * LANES * 4];
                for (column, value) in columns.chunks_exact_mut(LANES * 4).zip(key) {
                    put_f32(column, lane * 4, *value);
                }
            }
            CacheFormat::Int8 => {
                let (scale, factor) = quantizer(key);
                let quads = &mut record[half * key.len() * LANES..][..key.len() * LANES];
                for (quads, key) in quads.chunks_exact_mut(LANES * 4).zip(key.as_chunks::<4>().0) {
                    let quad = key.map(|value| level(value, factor) as u8 ^ 0x80);
                    quads[lane * 4..][..4].copy_from_slice(&quad);
                }
                put_f32(record, BLOCK * key.len() + slot * 4, scale);
            }
        }
    }

    /// Stores the value of the token at `slot` of a block.
    #[inline(always)]
    pub(crate) fn store_value(self, record: &mut [u8], slot: usize, value: &[f32]) {
        match self {
            CacheFormat::Fp32 => {
                let to = &mut record[slot * value.len() * 4..][..value.len() * 4];
                for (to, value) in to.as_chunks_mut::<4>().0.iter_mut().zip(value) {
                    *to = value.to_ne_bytes();
                }
            }
            CacheFormat::Int8 => {
                let (scale, factor) = quantizer(value);
                let quads = &mut record[slot / 4 * value.len() * 4..][..value.len() * 4];
                for (quad, value) in quads.as_chunks_mut::<4>().0.iter_mut().zip(value) {
                    quad[slot % 4] = level(*value, factor) as u8;
                }
                put_f32(record, BLOCK * value.len() + slot * 4, scale);
            }
        }
    }

    /// An int8 record of keys as an fp32 record. Unused slots become what they hold.
    #[inline(always)]
    pub(super) fn expand_keys(record: &[u8], dim: usize, out: &mut [f32]) {
        let scales = scales_of(record, dim);
        for half in 0..BLOCK / LANES {
            for channel in 0..dim {
                let from = &record[(half * (dim / 4) + channel / 4) * LANES * 4..][..LANES * 4];
                let to = &mut out[(half * dim + channel) * LANES..][..LANES];
                for lane in 0..LANES {
                    let key = from[lane * 4 + channel % 4] ^ 0x80;
                    to[lane] = f32::from(key as i8) * scales[half * LANES + lane];
                }
            }
        }
    }

    /// As [`CacheFormat::expand_keys`], a record of values.
    #[inline(always)]
    pub(super) fn expand_values(record: &[u8], dim: usize, out: &mut [f32]) {
        let scales = scales_of(record, dim);
        for token in 0..BLOCK {
            let from = &record[token / 4 * dim * 4..][..dim * 4];
            let to = &mut out[token * dim..][..dim];
            for channel in 0..dim {
                to[channel] = f32::from(from[channel * 4 + token % 4] as i8) * scales[token];
            }
        }
    }
}

/// The scale of symmetric 8-bit quantisation, by which the largest magnitude becomes 127, and the factor that
/// [`level`] takes.
#[inline(always)]
pub(super) fn quantizer(values: &[f32]) -> (f32, f32) {
    unit_of(values, 127.0)
}

#[inline(always)]
fn scales_of(record: &[u8], dim: usize) -> [f32; BLOCK] {
    let mut scales = [0.0; BLOCK];
    for (scale, bytes) in scales.iter_mut().zip(record[BLOCK * dim..].as_chunks::<4>().0) {
        *scale = f32::from_ne_bytes(*bytes);
    }
    scales
}

#[inline(always)]
fn put_f32(bytes: &mut [u8], at: usize, value: f32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}
