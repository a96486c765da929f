//! Golden graphs for GPUs, and the same after edits.
