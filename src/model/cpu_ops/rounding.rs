//! Values rounded to integers: each becomes `unit * level`, with levels up to a limit either way. One rounding for the
//! cache, queries, attention weights and activations.

/// Added to a float below 2^22, leaves it rounded to the nearest integer, ties to even, in the low bits.
pub(super) const ROUNDER: f32 = (3 << 22) as f32;

/// Sets with no magnitude above count as zero: their units would not be normal numbers.
const TINY: f32 = f32::MIN_POSITIVE * (1 << 20) as f32;

/// The unit that gives the largest magnitude the level `limit`, and the factor that turns values into levels: zero if
/// all levels are zero. A value that is not finite makes the unit not a number, so that everything computed from it is
/// not a number either.
#[inline(always)]
pub(super) fn unit_of(values: &[f32], limit: f32) -> (f32, f32) {
    // Magnitudes are ordered as their bits are, with infinity and what is not a number above all others.
    let mut largest = 0;
    for value in values {
        largest = largest.max(value.to_bits() & (u32::MAX >> 1));
    }
    unit_of_largest(f32::from_bits(largest), limit)
}

/// As [`unit_of`], of a set whose largest magnitude is known.
#[inline(always)]
pub(super) fn unit_of_largest(largest: f32, limit: f32) -> (f32, f32) {
    if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if largest < TINY {
        (0.0, 0.0)
    } else {
        (largest / limit, limit / largest)
    }
}

/// The level of a value, given the factor of its set. Of a value that is not finite it may be anything.
#[inline(always)]
pub(super) fn level(value: f32, factor: f32) -> i32 {
    (value * factor + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32
}
