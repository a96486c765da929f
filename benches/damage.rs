//! Which damage the self-test finds where digests are not looked at: `cargo bench --bench damage -- BUNDLE`. Random places of
//! the weights behind the embedding, which a few texts see next to nothing of; the bundle's weights are int8.

use std::{fs, path::Path};

use qwenguard::{CachePrecision, Config, Guard};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const TRIALS: usize = 100;

type Damage = fn(&mut [u8], usize);
const KINDS: [(&str, Damage); 6] = [
    ("one bit turned", |bytes, at| bytes[at] ^= 1 << (at % 8)),
    ("4 bytes of ones", |bytes, at| fill(bytes, at / 4 * 4, 4, 0xff)),
    ("64 bytes of zeros", |bytes, at| fill(bytes, at / 64 * 64, 64, 0)),
    ("4 KiB of zeros", |bytes, at| fill(bytes, at / 4096 * 4096, 4096, 0)),
    ("64 KiB of zeros", |bytes, at| fill(bytes, at / 4096 * 4096, 65536, 0)),
    ("64 KiB of another place", |bytes, at| {
        let (len, from) = (65536.min(bytes.len() - at), bytes.len() / 3);
        bytes.copy_within(from..from + len.min(bytes.len() - from), at);
    }),
];

fn fill(bytes: &mut [u8], at: usize, len: usize, value: u8) {
    let end = bytes.len().min(at + len);
    bytes[at..end].fill(value);
}

fn main() {
    // Cargo's own arguments start with dashes.
    let bundle = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).expect("which bundle?");
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(&bundle).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let weights = fs::read(copy.path().join("weights.bin")).unwrap();
    let info = Guard::open(&bundle).unwrap().info().clone();
    let embedding = info.vocab_size * info.hidden_size * 2;
    println!("| damage | found, cache in fp32 | found, cache in int8 |\n|---|---|---|");
    for (name, damage) in KINDS {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut found = [0; 2];
        for _ in 0..TRIALS {
            let mut bytes = weights.clone();
            let place = rng.random_range(embedding..bytes.len());
            damage(&mut bytes[embedding..], place - embedding);
            fs::write(copy.path().join("weights.bin"), bytes).unwrap();
            for (found, precision) in found.iter_mut().zip([CachePrecision::Fp32, CachePrecision::Int8]) {
                *found += usize::from(!opens(copy.path(), precision));
            }
        }
        println!("| {name} | {} % | {} % |", found[0] * 100 / TRIALS, found[1] * 100 / TRIALS);
    }
}

fn opens(bundle: &Path, precision: CachePrecision) -> bool {
    let mut config = Config { verify_files: false, ..Config::default() };
    config.cache.precision = precision;
    config.cache.mib = 64;
    config.runtime.threads = 1;
    Guard::open_with(bundle, &config).is_ok()
}
