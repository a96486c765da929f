//! The kernel of each instruction set.

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{amx, x86};
use super::{contract::Kernel, portable};
use crate::model::cpu_ops::isa::{Isa, Level};

/// The kernel for an instruction set.
pub(crate) fn kernel(isa: Isa) -> Kernel {
    match isa.level() {
        Level::Portable => portable::KERNEL,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::AVX2,
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni => x86::AVX_VNNI,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni => x86::AVX512_VNNI,
        #[cfg(target_arch = "x86_64")]
        Level::Amx => amx::AMX,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::NEON,
        #[cfg(target_arch = "aarch64")]
        Level::NeonDotprod => neon::NEON_DOTPROD,
        #[cfg(target_arch = "aarch64")]
        Level::NeonI8mm => neon::NEON_I8MM,
    }
}
