//! Text deltas: any bytes in any pieces. Run it with `cargo +nightly fuzz run deltas`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| qwenguard::fuzz_deltas(data));
