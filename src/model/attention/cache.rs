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

/// Tokens in a block.
pub(crate) const BLOCK: usize = 32;

/// Tokens that one vector register of scores covers.
const LANES: usize = 16;

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
    pub(crate) fn store_key(self, record: &mut [u8], slot: usize, key: &[f32]) {
        match self {
            CacheFormat::Fp32 => {
                for (channel, value) in key.iter().enumerate() {
                    let at = (slot / LANES * key.len() + channel) * LANES + slot % LANES;
                    put_f32(record, at * 4, *value);
                }
            }
            CacheFormat::Int8 => {
                let scale = scale_of(key);
                for (channel, value) in key.iter().enumerate() {
                    let quad = slot / LANES * (key.len() / 4) + channel / 4;
                    record[(quad * LANES + slot % LANES) * 4 + channel % 4] = (quantize(*value, scale) as u8) ^ 0x80;
                }
                put_f32(record, BLOCK * key.len() + slot * 4, scale);
            }
        }
    }

    /// Stores the value of the token at `slot` of a block.
    pub(crate) fn store_value(self, record: &mut [u8], slot: usize, value: &[f32]) {
        match self {
            CacheFormat::Fp32 => {
                for (channel, x) in value.iter().enumerate() {
                    put_f32(record, (slot * value.len() + channel) * 4, *x);
                }
            }
            CacheFormat::Int8 => {
                let scale = scale_of(value);
                for (channel, x) in value.iter().enumerate() {
                    record[(slot / 4 * value.len() + channel) * 4 + slot % 4] = quantize(*x, scale) as u8;
                }
                put_f32(record, BLOCK * value.len() + slot * 4, scale);
            }
        }
    }

    /// Reads the first `tokens` keys of a block as `f32 [dim][BLOCK]`. Columns from `tokens` on are left as they are:
    /// memory that no token was stored in is never read.
    #[inline(always)]
    pub(crate) fn load_keys(self, record: &[u8], dim: usize, tokens: usize, out: &mut [f32]) {
        match self {
            CacheFormat::Fp32 => {
                for half in 0..tokens.div_ceil(LANES) {
                    let columns = (tokens - half * LANES).min(LANES);
                    for channel in 0..dim {
                        let from = &record[(half * dim + channel) * LANES * 4..][..LANES * 4];
                        let to = &mut out[channel * BLOCK + half * LANES..][..columns];
                        for (column, to) in to.iter_mut().enumerate() {
                            *to = get_f32(from, column * 4);
                        }
                    }
                }
            }
            CacheFormat::Int8 => {
                let scales = &record[BLOCK * dim..];
                for half in 0..tokens.div_ceil(LANES) {
                    let columns = (tokens - half * LANES).min(LANES);
                    let mut scale = [0.0; LANES];
                    for (column, scale) in scale.iter_mut().enumerate().take(columns) {
                        *scale = get_f32(scales, (half * LANES + column) * 4);
                    }
                    for channel in 0..dim {
                        let from = &record[(half * (dim / 4) + channel / 4) * LANES * 4..][..LANES * 4];
                        let to = &mut out[channel * BLOCK + half * LANES..][..columns];
                        for (column, to) in to.iter_mut().enumerate() {
                            *to = f32::from((from[column * 4 + channel % 4] ^ 0x80) as i8) * scale[column];
                        }
                    }
                }
            }
        }
    }

    /// Reads the first `tokens` values of a block as `f32 [BLOCK][dim]`; rows from `tokens` on are left as they are.
    #[inline(always)]
    pub(crate) fn load_values(self, record: &[u8], dim: usize, tokens: usize, out: &mut [f32]) {
        match self {
            CacheFormat::Fp32 => {
                for (index, to) in out[..tokens * dim].iter_mut().enumerate() {
                    *to = get_f32(record, index * 4);
                }
            }
            CacheFormat::Int8 => {
                let scales = &record[BLOCK * dim..];
                for token in 0..tokens {
                    let scale = get_f32(scales, token * 4);
                    let from = &record[token / 4 * dim * 4..][..dim * 4];
                    for (channel, to) in out[token * dim..][..dim].iter_mut().enumerate() {
                        *to = f32::from(from[channel * 4 + token % 4] as i8) * scale;
                    }
                }
            }
        }
    }
}

/// The scale of symmetric 8-bit quantisation: the largest magnitude becomes 127.
pub(crate) fn scale_of(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |max, value| max.max(value.abs())) / 127.0
}

/// A value in units of `scale`, rounded to the nearest integer.
pub(crate) fn quantize(value: f32, scale: f32) -> i8 {
    if scale == 0.0 { 0 } else { (value / scale).round().clamp(-127.0, 127.0) as i8 }
}

fn put_f32(bytes: &mut [u8], at: usize, value: f32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

#[inline(always)]
fn get_f32(bytes: &[u8], at: usize) -> f32 {
    f32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
