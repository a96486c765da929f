//! The C ABI, one file per C object: `include/qwenguard.h` is generated from here and is its documentation, so comments
//! on exported items are written for C.
//!
//! An exported function has one statement, a call of [`boundary::status`] or [`boundary::value`], which keep panics in.
//! Its types are those of `safer-ffi`'s `ReprC`: see `signatures`. Numbers that name something arrive as integers and are
//! checked. What a function gives is written when it has succeeded, and only then.

#![allow(non_camel_case_types, reason = "the names are those of the header")]
#![allow(unreachable_pub, reason = "exported to C, not to Rust")]

mod annotate;
mod annotation;
mod boundary;
mod call;
mod cast;
mod conversation;
mod descriptor;
mod error;
mod failure;
mod grows;
mod guard;
mod log;
mod memory;
mod message;
mod providers;
mod queue;
mod result;
mod signals;
mod signatures;
mod stats;
mod status;
mod stream;
mod subscriber;
mod text;
mod unload;
mod version;
mod wake;
