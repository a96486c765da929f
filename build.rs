//! For the C ABI (feature `capi`): generates the header. For the demonstration guards (feature `nano`): compresses their files.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "nano")]
    nano::pack();
    #[cfg(feature = "capi")]
    capi::header();
}

#[cfg(feature = "nano")]
mod nano {
    use std::{env, fs, path::Path};

    /// Writes each file of both bundles to the folder of build outputs, as src/bundle/embedded.rs reads it.
    pub(super) fn pack() {
        let out = env::var_os("OUT_DIR").expect("set by cargo");
        for bundle in ["nano", "nano-gen"] {
            let folder = Path::new("export").join(bundle).join("bundle");
            println!("cargo::rerun-if-changed={}", folder.display());
            for file in fs::read_dir(&folder).expect("the bundle is there") {
                let file = file.expect("the folder is read");
                let name = format!("{bundle}-{}", file.file_name().to_str().expect("its name is text"));
                let bytes = fs::read(file.path()).expect("the file is read");
                let planes = if name.ends_with(".bin") { PLANES } else { 1 };
                fs::write(Path::new(&out).join(name), packed(&bytes, planes)).expect("there is room for it");
            }
        }
    }

    /// In how many planes weights are packed: first all first bytes of four, then all second ones, and so on. Numbers in 16 and 32 bits are
    /// much smaller so, since the bytes with their exponents are alike.
    const PLANES: usize = 4;

    /// Its length, the number of planes, and what zlib makes of it at the level that most use: a higher one gains less than 0.5 %.
    fn packed(file: &[u8], planes: usize) -> Vec<u8> {
        let whole = file.len() / planes * planes;
        let mut sorted: Vec<u8> =
            (0..planes).flat_map(|plane| file[..whole].iter().skip(plane).step_by(planes).copied()).collect();
        sorted.extend(&file[whole..]);
        let raw = zlib_rs::DeflateConfig { window_bits: -15, ..zlib_rs::DeflateConfig::new(6) };
        let mut room = vec![0; zlib_rs::compress_bound(sorted.len())];
        let (packed, code) = zlib_rs::compress_slice(&mut room, &sorted, raw);
        assert_eq!(code, zlib_rs::ReturnCode::Ok);
        [&(file.len() as u64).to_le_bytes()[..], &[planes as u8], packed].concat()
    }
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
