//! What a kernel is, and what its tasks share.

use super::Attention;

/// A layer's two pools, shared by the tasks of one run.
#[derive(Clone, Copy)]
pub(crate) struct CachePools {
    /// `[num_blocks, heads.kv, record_bytes]`
    pub(crate) keys: *mut u8,
    /// As `keys`.
    pub(crate) values: *mut u8,
}

/// The output rows, shared by the tasks of one run: `[tokens, heads.query * heads.dim]`.
#[derive(Clone, Copy)]
pub(crate) struct OutputRows(pub(crate) *mut f32);

// SAFETY: tasks touch disjoint parts: the records and output columns of their own stream and head, but for blocks that
// several streams share, which `Attention::validate` allows only for reading.
unsafe impl Send for CachePools {}
// SAFETY: as above.
unsafe impl Sync for CachePools {}
// SAFETY: as above.
unsafe impl Send for OutputRows {}
// SAFETY: as above.
unsafe impl Sync for OutputRows {}

/// A task function compiled for one instruction set.
pub(super) type TaskFn = unsafe fn(&Attention, CachePools, OutputRows, usize);

/// Attention for one instruction set, which this processor has.
#[derive(Clone, Copy)]
pub(crate) struct Kernel(pub(super) TaskFn);

impl Kernel {
    /// Tasks of a batch; [`Kernel::run_task`] takes one of `0..tasks`.
    pub(crate) fn tasks(attention: &Attention) -> usize {
        attention.streams() * attention.heads.kv
    }

    /// Runs one task. Tasks of one batch may run in any order and at the same time.
    ///
    /// # Safety
    /// `attention.validate()` succeeded; `pools` and `output` have the documented sizes, are not accessed by anyone
    /// else during the batch, and no task runs twice at the same time.
    pub(crate) unsafe fn run_task(&self, attention: &Attention, pools: CachePools, output: OutputRows, task: usize) {
        debug_assert!(task < Self::tasks(attention));
        // SAFETY: the caller's promises; the processor has the function's instruction set.
        unsafe { (self.0)(attention, pools, output, task) }
    }
}
