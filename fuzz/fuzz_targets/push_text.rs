//! An answer that comes as text: tags, cuts and ends anywhere. Run it with `cargo +nightly fuzz run push_text`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| qwenguard::fuzz_push_text(data));
