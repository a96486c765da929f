//! Mutated bundles, configurations and templates. Run it with `cargo +nightly fuzz run bundles`. The bytes choose the
//! mutations, see tests/common/mutate.rs.

#![no_main]

#[path = "../../tests/common/mutate.rs"]
mod mutate;

use std::{path::Path, sync::OnceLock};

use mutate::{Case, Choices, Files};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static BASE: OnceLock<Files> = OnceLock::new();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../export/nano/bundle");
    let case = Case::new(BASE.get_or_init(|| Files::read(&bundle)), &mut Choices::new(data));
    let folder = tempfile::tempdir().unwrap();
    case.write(folder.path());
    let _ = mutate::judge(folder.path(), &case.config);
});
