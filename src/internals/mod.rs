//! The way of benches/ and fuzz/ to what is private (feature `_internals`). No part of the interface: it may change in any
//! release.

#![allow(missing_debug_implementations, reason = "not of the public interface")]

mod attention;
mod matmul;
mod text;

pub use attention::PagedStreams;
pub use matmul::IntMatrix;
pub use text::{CheckedTexts, TextDeltas};

pub use crate::runtime::profile_sessions;
