//! What opening a bundle takes: `cargo bench --bench open -- BUNDLE [ROUNDS]`. With and without the digests of its files and
//! the self-test, on one thread; the settings take turns. The files are in the system's cache. Beside the time, the
//! processor's time says what is work on a machine that has other work too.

use std::{
    fs,
    time::{Duration, Instant},
};

use qwenguard::{Config, Guard};

/// Name, digests, self-test.
const SETTINGS: [(&str, bool, bool); 4] = [
    ("neither", false, false),
    ("digests", true, false),
    ("self-test", false, true),
    ("both, the default", true, true),
];

fn main() {
    // Cargo's own arguments start with dashes.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let bundle = arguments.next().expect("which bundle?");
    let rounds = arguments.next().map_or(9, |rounds| rounds.parse().expect("how many rounds?"));
    let mut times = [const { Vec::new() }; SETTINGS.len()];
    let mut work = [0.0; SETTINGS.len()];
    for round in 0..=rounds {
        for (index, (_, verify_files, self_test)) in SETTINGS.into_iter().enumerate() {
            let mut config = Config { verify_files, self_test, ..Config::default() };
            config.cache.mib = 1024;
            config.runtime.threads = 1;
            let (start, worked) = (Instant::now(), processor_ms());
            let guard = Guard::open_with(&bundle, &config).unwrap();
            let (time, worked) = (start.elapsed(), processor_ms() - worked);
            drop(guard);
            // The first round loads the runtime and the files.
            if round > 0 {
                times[index].push(time);
                work[index] += worked / f64::from(rounds);
            }
        }
    }
    println!("| checked at opening | median, ms | least, ms | of the processor, ms |\n|---|---|---|---|");
    for (((name, ..), times), work) in SETTINGS.iter().zip(&mut times).zip(work) {
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("| {name} | {:.0} | {:.0} | {work:.0} |", ms(times[times.len() / 2]), ms(times[0]));
    }
}

/// What this process took of the processors so far; known on Linux only, in steps of 10 ms.
fn processor_ms() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything, in brackets: user and system time are fields 14 and 15 of all.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}
