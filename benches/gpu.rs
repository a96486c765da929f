//! Step times on a GPU: `cargo bench --bench gpu -- BUNDLE...`, with the provider's name in QWENGUARD_BENCH_PROVIDER. Prints a
//! table: streams, new tokens of each, context, and the milliseconds of a step: the first of its size, and the median, least and
//! most of those after it. On CUDA it prints another with CUDA graphs.

mod common;

use std::time::Instant;

use common::{RandomTokens, push_all, streams_at};
use qwenguard::{Config, Guard, Provider};

/// Streams, new tokens of each, and the context before.
const CASES: [(usize, usize, usize); 6] =
    [(1, 1, 1000), (16, 1, 1000), (64, 1, 1000), (256, 1, 1000), (1, 512, 64), (4, 2048, 64)];

/// Timed after as many that are not.
const TIMES: usize = 20;
const WARM_UP: usize = 3;

fn main() {
    let name = std::env::var("QWENGUARD_BENCH_PROVIDER").expect("QWENGUARD_BENCH_PROVIDER names a provider");
    let mut config = Config::default();
    config.runtime.provider = Provider::from_name(&name).expect("a provider");
    // A step takes all that is asked for at once.
    config.engine.step_tokens = 8192;
    config.cache.mib = std::env::var("QWENGUARD_BENCH_CACHE_MIB").map_or(36 << 10, |mib| mib.parse().expect("MiB"));
    let recorded = [false, true].into_iter().filter(|on| !on || config.runtime.provider == Provider::Cuda);
    let bundles = std::env::args().skip(1).filter(|argument| argument != "--bench");
    for (bundle, recorded) in bundles.flat_map(|bundle| recorded.clone().map(move |on| (bundle.clone(), on))) {
        config.runtime.cuda.graphs = recorded;
        let guard = Guard::open_with(&bundle, &config).unwrap_or_else(|error| panic!("{error}"));
        let info = guard.info();
        let how = if recorded { ", CUDA graphs" } else { "" };
        println!("{bundle}: {} weights, {} cache, {:?}{how}", info.weights, info.cache, info.nodes);
        let columns = ["first", "median", "least", "most"].map(|name| format!("{name:>9}")).join(" ");
        println!("{:>8} {:>6} {:>8} {columns}", "streams", "new", "context");
        for (count, new, context) in CASES {
            let mut tokens = RandomTokens::new(&guard);
            let mut streams = streams_at(&guard, &mut tokens, count, context);
            let mut times: Vec<f64> = (0..WARM_UP + TIMES)
                .map(|_| {
                    let pieces: Vec<Vec<u32>> = (0..count).map(|_| tokens.take(new)).collect();
                    let start = Instant::now();
                    push_all(&mut streams, &pieces);
                    let time = start.elapsed().as_secs_f64() * 1e3;
                    for stream in &mut streams {
                        let all = stream.push_tokens::<u32>(&[]).unwrap().final_tokens;
                        stream.truncate_tokens(all - new).unwrap();
                    }
                    time
                })
                .collect();
            let (first, times) = (times[0], &mut times[WARM_UP..]);
            times.sort_by(f64::total_cmp);
            let times =
                [first, times[TIMES / 2], times[0], times[TIMES - 1]].map(|time| format!("{time:>9.2}")).join(" ");
            println!("{count:>8} {new:>6} {context:>8} {times}");
        }
    }
}
