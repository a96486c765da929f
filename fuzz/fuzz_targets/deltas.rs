//! Text deltas: any bytes in any pieces. Run it with `cargo +nightly fuzz run deltas`.

#![no_main]

use std::sync::LazyLock;

use qwenguard::internals::CheckedTexts;

static TEXTS: LazyLock<CheckedTexts> = LazyLock::new(|| {
    CheckedTexts::new(include_bytes!("../../tests/golden/checkpoints/odd-bf16/tokenizer.json"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TEXTS.deltas(data));
