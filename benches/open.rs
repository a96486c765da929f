//! What opening a bundle takes: `cargo bench --bench open -- BUNDLE`. With and without the digests of its files and the
//! self-test; the settings take turns. The files are in the system's cache.

use std::time::{Duration, Instant};

use qwenguard::{Config, Guard};

const ROUNDS: usize = 9;
/// Name, digests, self-test.
const SETTINGS: [(&str, bool, bool); 4] = [
    ("neither", false, false),
    ("digests", true, false),
    ("self-test", false, true),
    ("both, the default", true, true),
];

fn main() {
    // Cargo's own arguments start with dashes.
    let bundle = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).expect("which bundle?");
    let mut times = [const { Vec::new() }; SETTINGS.len()];
    for round in 0..=ROUNDS {
        for (times, (_, verify_files, self_test)) in times.iter_mut().zip(SETTINGS) {
            let mut config = Config { verify_files, self_test, ..Config::default() };
            config.cache.mib = 1024;
            let start = Instant::now();
            let guard = Guard::open_with(&bundle, &config).unwrap();
            let time = start.elapsed();
            drop(guard);
            // The first round loads the runtime and the files.
            if round > 0 {
                times.push(time);
            }
        }
    }
    println!("| checked at opening | median, ms | least, ms |\n|---|---|---|");
    for ((name, ..), times) in SETTINGS.iter().zip(&mut times) {
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("| {name} | {:.1} | {:.1} |", ms(times[times.len() / 2]), ms(times[0]));
    }
}
