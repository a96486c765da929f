//! For the C ABI (feature `capi`): generates the header.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "capi")]
    capi::header();
}

#[cfg(feature = "capi")]
mod capi {
    use std::{env, path::PathBuf};

    /// The order of the functions in the header.
    const SOURCES: [&str; 10] =
        ["version", "status", "error", "text", "result", "guard", "stats", "stream", "call", "queue"];

    /// Writes the header to the folder of build outputs. A test compares it with include/qwenguard.h, and `make header`
    /// puts it there.
    pub(super) fn header() {
        println!("cargo::rerun-if-changed=src/ffi");
        println!("cargo::rerun-if-changed=cbindgen.toml");
        let config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml is read");
        let mut builder = cbindgen::Builder::new().with_config(config);
        for source in SOURCES {
            builder = builder.with_src(format!("src/ffi/{source}.rs"));
        }
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
        builder.generate().expect("src/ffi is read").write_to_file(out.join("qwenguard.h"));
    }
}
