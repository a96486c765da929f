//! Powers of two, without branches: compilers turn them into vector instructions, and each instruction set gives the same
//! bits.

use super::rounding::ROUNDER;

/// Below it results are zero.
pub(super) const LEAST: f32 = -127.0;

/// Cephes, exp2f: for a rest of at most a half either way, from the highest power down.
pub(super) const COEFFICIENTS: [f32; 7] =
    [1.535_336_2e-4, 1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0];

/// 2 to the power of `x`, for `x` of at most 0; zero below -126.5. Off by at most 2 units in the last place.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    // The order of operands keeps what is not a number.
    let x = if x < LEAST { LEAST } else { x };
    let rounded = x + ROUNDER;
    let rest = x - (rounded - ROUNDER);
    let mut power = COEFFICIENTS[0];
    for coefficient in &COEFFICIENTS[1..] {
        power = power * rest + coefficient;
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127);
    power * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_right_within_two_units() {
        for step in 0..=1_260_000 {
            let x = -(step as f32) * 1e-4;
            let (found, wanted) = (f64::from(exp2(x)), f64::from(x).exp2());
            assert!((found - wanted).abs() <= 2.0 * f64::from(f32::EPSILON) * wanted, "2^{x} is not {found}");
        }
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!([exp2(-127.0), exp2(-1e30), exp2(f32::NEG_INFINITY)], [0.0; 3]);
        assert!(exp2(f32::NAN).is_nan());
    }
}
