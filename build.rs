//! For the C ABI (feature `capi`): generates the header.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "capi")]
    capi::header();
}

#[cfg(feature = "capi")]
mod capi {
    use std::{env, fs, path::PathBuf};

    /// The order of the functions in the header.
    const SOURCES: [&str; 18] = [
        "version",
        "status",
        "failure",
        "error",
        "text",
        "result",
        "guard",
        "providers",
        "stats",
        "message",
        "stream",
        "call",
        "annotation",
        "annotate",
        "queue",
        "wake",
        "subscriber",
        "log",
    ];
    /// The comment that the header begins with.
    const FRONT_PAGE: &str = "src/ffi/front_page.h";

    /// Writes the header to the folder of build outputs. A test compares it with include/qwenguard.h, and `make header`
    /// puts it there.
    pub(super) fn header() {
        println!("cargo::rerun-if-changed=src/ffi");
        println!("cargo::rerun-if-changed=cbindgen.toml");
        let mut config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml is read");
        config.header = Some(fs::read_to_string(FRONT_PAGE).expect("the front page is read"));
        let mut builder = cbindgen::Builder::new().with_config(config);
        for source in SOURCES {
            builder = builder.with_src(format!("src/ffi/{source}.rs"));
        }
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
        builder.generate().expect("src/ffi is read").write_to_file(out.join("qwenguard.h"));
    }
}
