//! Tasks by vector instructions.

use super::{
    Attention, Heads,
    cache::CacheFormat,
    contract::{CachePools, OutputRows},
    float::Float,
    int8::{self, Dots},
    task::run,
};

/// Runs a task by vector instructions: in integers what lies in int8, else in f32.
///
/// # Safety
/// That of [`Kernel::run_task`], and the processor knows the instructions.
#[inline(always)]
pub(super) unsafe fn run_vector<D: Dots>(attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
    let Attention { format, heads: Heads { dim, .. }, .. } = *attention;
    // SAFETY: the caller's promises.
    unsafe {
        if format == CacheFormat::Int8 && dim.is_multiple_of(16) && dim <= int8::MAX_DIM {
            run::<int8::Int8<D>>(attention, pools, output, task);
        } else {
            run::<Float<true>>(attention, pools, output, task);
        }
    }
}
