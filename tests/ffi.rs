//! The C ABI: its header, its shared library, and programs in C and C++ that use them.

#[path = "ffi/cpp.rs"]
mod cpp;
#[path = "ffi/dist.rs"]
mod dist;
#[path = "ffi/header.rs"]
mod header;
#[path = "ffi/native.rs"]
mod native;
#[cfg(target_os = "linux")]
#[path = "ffi/process.rs"]
mod process;
#[path = "common/tools.rs"]
mod tools;
