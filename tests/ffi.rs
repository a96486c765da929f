//! The C ABI: its header, its shared library, and programs in C and C++ that use them. Libraries and programs are made on
//! Linux only, elsewhere only the header is tested.

#[cfg(target_os = "linux")]
#[path = "ffi/cpp.rs"]
mod cpp;
#[cfg(target_os = "linux")]
#[path = "ffi/dist.rs"]
mod dist;
#[path = "ffi/header.rs"]
mod header;
#[cfg(target_os = "linux")]
#[path = "ffi/native.rs"]
mod native;
#[cfg(target_os = "linux")]
#[path = "ffi/process.rs"]
mod process;
#[cfg(target_os = "linux")]
#[path = "ffi/target.rs"]
mod target;
#[path = "common/tools.rs"]
mod tools;

/// Says so where that is all.
#[cfg(not(target_os = "linux"))]
#[test]
fn programs_are_run_on_linux() {
    assert!(std::env::var("QWENGUARD_REQUIRE_TOOLCHAINS").map_or(true, |value| value != "1"), "they run on Linux only");
    eprintln!("SKIPPED: the programs in C and C++ run on Linux only");
}
