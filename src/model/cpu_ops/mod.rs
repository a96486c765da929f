//! The operators of the paged graph on the CPU (domain `ai.qwenguard`), as ONNX Runtime sees them, and their kernels.
//!
//! To add an operator: a folder or file here with the kernel for each level of [`isa`], its `Operator`, a test of every
//! kernel against a reference over [`Isa::available`], and a line in [`operators`]; then its node in the exporter's graph.

pub(crate) mod attention;
#[cfg(target_arch = "aarch64")]
mod dot_products;
mod exp2;
pub(crate) mod isa;
pub(crate) mod matmul;
mod operator;
mod rounding;
mod swiglu;

use ort::operator::OperatorDomain;

use self::{
    attention::operator::PagedAttention,
    isa::Isa,
    matmul::{Bits, activations::Rounding, gather::GatherInt8, operator::MatMul},
    swiglu::SwiGlu,
};

/// The operators for one session, with their kernels for an instruction set; multiplications round activations so.
pub(crate) fn operators(isa: Isa, rounding: Rounding) -> ort::Result<OperatorDomain> {
    let attention = PagedAttention { kernel: attention::kernels::kernel(isa) };
    let matmul = |bits| MatMul { kernel: matmul::kernels::kernel(isa), bits, rounding };
    let domain = OperatorDomain::new("ai.qwenguard")?.add(attention)?;
    domain.add(matmul(Bits::Eight))?.add(matmul(Bits::Four))?.add(GatherInt8)?.add(SwiGlu { isa })
}
