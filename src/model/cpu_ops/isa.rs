//! Instruction sets: which of them this processor has. The one place that looks.

/// The sets that kernels are written for, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 and FMA with 8-bit dot products.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 F, BW and VL with 8-bit dot products, AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// That, and 8-bit products of tiles.
    #[cfg(target_arch = "x86_64")]
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux is asked for tiles"))]
    Amx,
    /// Advanced SIMD, which every 64-bit ARM processor has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// With dot products of signed bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    /// With dot products of bytes whose signs differ.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
}

/// An instruction set that this processor has: to hold one is the proof, on which calls of kernels rely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isa(Level);

impl Isa {
    /// The set that every processor has.
    pub(crate) const PORTABLE: Isa = Isa(Level::Portable);

    /// The best one.
    pub(crate) fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::PORTABLE)
    }

    /// Every set that this processor has, slowest first.
    pub(crate) fn available() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            allow(unused_mut, reason = "there are no others")
        )]
        let mut found = vec![Self::PORTABLE];
        // Miri knows no vector instructions.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Isa(Level::Avx2));
            if is_x86_feature_detected!("avxvnni") {
                found.push(Isa(Level::AvxVnni));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                found.push(Isa(Level::Avx512Vnni));
            }
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        {
            found.push(Isa(Level::Neon));
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Isa(Level::NeonDotprod));
            }
            if std::arch::is_aarch64_feature_detected!("i8mm") {
                found.push(Isa(Level::NeonI8mm));
            }
        }
        found
    }

    /// AMX, which nothing chooses by itself, because no processor has run its kernel yet: only who asks for it has it. The
    /// system gives the right to use tiles to the whole process, for good.
    pub(crate) fn amx() -> Result<Self, &'static str> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
        {
            if !(Self::available().contains(&Isa(Level::Avx512Vnni)) && has_amx()) {
                return Err("this processor has no AMX for 8-bit integers, or no AVX-512 with VNNI");
            }
            return match may_use_tiles() {
                true => Ok(Isa(Level::Amx)),
                false => Err("the system does not let this process use AMX"),
            };
        }
        #[allow(unreachable_code, reason = "not on this platform")]
        Err("AMX is used on x86-64 Linux only")
    }

    pub(super) fn level(self) -> Level {
        self.0
    }

    /// Its name in logs, tests and benches.
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Level::NeonDotprod => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm => "neon-i8mm",
        }
    }
}

/// Whether the processor has tiles and their 8-bit products.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn has_amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    const TILES_AND_INT8: u32 = 1 << 24 | 1 << 25;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES_AND_INT8 == TILES_AND_INT8
}

/// Asks Linux for the right to use tiles, which adds 8 KiB to what it saves of a thread. Kernels before 5.16 know no such
/// request; later ones refuse it where a thread's stack for signals is too small.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the request has no pointers, and changes nothing but the right.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn amx_is_refused_where_the_system_knows_of_none() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let known = cpuinfo.split_whitespace().any(|flag| flag == "amx_int8");
        assert!(known || Isa::amx().is_err());
        assert!(!Isa::available().iter().any(|isa| isa.name() == "amx"));
    }
}
