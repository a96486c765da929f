//! 8-bit dot products of ARM processors, which Rust has no stable functions for.

use std::arch::{aarch64::*, asm};

/// Adds products of four signed with four signed bytes to each lane; those on the right are the first four for all lanes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn sdot_lane(mut sums: int32x4_t, left: int8x16_t, right: int8x8_t) -> int32x4_t {
    // SAFETY: the instruction works on these registers alone, and the caller's processor has it.
    unsafe {
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[0]",
            inout(vreg) sums, in(vreg) left, in(vreg) right,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// The same of unsigned with signed bytes.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn usdot_lane(mut sums: int32x4_t, left: uint8x16_t, right: int8x8_t) -> int32x4_t {
    // SAFETY: as above.
    unsafe {
        asm!(
            "usdot {0:v}.4s, {1:v}.16b, {2:v}.4b[0]",
            inout(vreg) sums, in(vreg) left, in(vreg) right,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// The same of signed with unsigned bytes.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn sudot_lane(mut sums: int32x4_t, left: int8x16_t, right: uint8x8_t) -> int32x4_t {
    // SAFETY: as above.
    unsafe {
        asm!(
            "sudot {0:v}.4s, {1:v}.16b, {2:v}.4b[0]",
            inout(vreg) sums, in(vreg) left, in(vreg) right,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// The same of unsigned bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn udot_lane(mut sums: int32x4_t, left: uint8x16_t, right: uint8x8_t) -> int32x4_t {
    // SAFETY: as above.
    unsafe {
        asm!(
            "udot {0:v}.4s, {1:v}.16b, {2:v}.4b[0]",
            inout(vreg) sums, in(vreg) left, in(vreg) right,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Fetches a line of the cache that is needed soon; it need not be there.
#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    // SAFETY: a hint, which does not access memory as far as programs can see.
    unsafe { asm!("prfm pldl2keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags)) }
}
