//! The kernel of each instruction set.

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{
    Attention,
    contract::{CachePools, Kernel, OutputRows},
    float::Float,
    task,
};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::model::cpu_ops::isa::{Isa, Level};

/// The kernel for an instruction set.
pub(crate) fn kernel(isa: Isa) -> Kernel {
    Kernel(match isa.level() {
        Level::Portable => task_portable,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::task_avx2,
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni => avx2::task_avx_vnni,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni | Level::Amx => avx512::task_avx512_vnni,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::task_neon,
        #[cfg(target_arch = "aarch64")]
        Level::NeonDotprod => neon::task_dotprod,
        #[cfg(target_arch = "aarch64")]
        Level::NeonI8mm => neon::task_i8mm,
    })
}

unsafe fn task_portable(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    // SAFETY: the caller's promises.
    unsafe { task::run::<Float<false>>(attention, pools, output, task) }
}
