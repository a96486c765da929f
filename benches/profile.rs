//! Where the time of a step goes: `cargo bench --features _internals --bench profile -- BUNDLE [WORK...]`, with works such as
//! `16x1@1000`, with one thread and with one per core. Times are those of ONNX Runtime's profiler, which itself takes some: compare
//! shares, not steps. `THREADS=4` takes so many instead of one per core.

mod common;

use std::{collections::BTreeMap, env, fs, thread};

use common::steps::{Steps, Work};
use qwenguard::{Config, Guard, internals};
use serde::Deserialize;

const TIMES: usize = 20;
const WORKS: [&str; 6] = ["1x1@128", "1x16@128", "16x1@128", "1x64@128", "1x16@1000", "16x1@1000"];

/// An event of the profile; times in microseconds.
#[derive(Deserialize)]
struct Event {
    name: String,
    ts: f64,
    dur: f64,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

impl Event {
    fn operator(&self) -> Option<&str> {
        self.name.ends_with("_kernel_time").then(|| self.args.get("op_name")?.as_str()).flatten()
    }
}

/// Microseconds and calls of each operator in the last runs of the graph, and of the runs themselves.
fn read(profile: &str, runs: usize) -> (BTreeMap<String, (f64, usize)>, f64) {
    let events: Vec<Event> = serde_json::from_str(profile).expect("a profile");
    let mut steps: Vec<&Event> = events.iter().filter(|event| event.name == "model_run").collect();
    steps.sort_by(|a, b| a.ts.total_cmp(&b.ts));
    let steps = &steps[steps.len() - runs..];
    let from = steps[0].ts;
    let mut operators: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.ts >= from) {
        if let Some(operator) = event.operator() {
            let (time, calls) = operators.entry(operator.to_owned()).or_default();
            *time += event.dur;
            *calls += 1;
        }
    }
    (operators, steps.iter().map(|step| step.dur).sum())
}

/// Steps of one kind with some threads: microseconds and calls of each operator in all of them, and microseconds of all.
struct Measured {
    threads: usize,
    operators: BTreeMap<String, (f64, usize)>,
    graph: f64,
    wall: f64,
}

impl Measured {
    fn of(&self, operator: &str) -> f64 {
        self.operators.get(operator).map_or(0.0, |(time, _)| *time)
    }

    fn between_operators(&self) -> f64 {
        self.graph - self.operators.values().map(|(time, _)| time).sum::<f64>()
    }

    fn outside(&self) -> f64 {
        self.wall - self.graph
    }
}

/// A guard's profile is written when it is dropped, so each measurement has a guard of its own.
fn measure(bundle: &str, work: Work, threads: usize) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    internals::profile_sessions(Some(folder.path().join("profile")));
    let mut config = Config::default();
    config.cache.mib = 4096;
    config.runtime.threads = threads;
    let mut steps = Steps::new(Guard::open_with(bundle, &config).unwrap());
    steps.warm_up(work);
    let before = steps.guard.stats().steps;
    let wall = 1e3 * (0..TIMES).map(|_| steps.step(work)).sum::<f64>();
    let runs = (steps.guard.stats().steps - before) as usize;
    drop(steps);
    internals::profile_sessions(None);
    let file = fs::read_dir(folder.path()).unwrap().next().expect("a profile").unwrap();
    let (operators, graph) = read(&fs::read_to_string(file.path()).unwrap(), runs);
    Measured { threads, operators, graph, wall }
}

/// The table of one kind of step, and what of it more cores do not make faster.
fn profile(bundle: &str, name: &str, threads: usize) {
    let [one, all] = [1, threads].map(|threads| measure(bundle, Work::parse(name), threads));
    let row = |name: &str, calls: f64, [one_time, time]: [f64; 2]| {
        let [one_us, us] = [one_time, time].map(|time| time / TIMES as f64);
        println!(
            "| {name} | {calls:.0} | {one_us:.0} | {us:.0} | {:.1} % | {:.2} |",
            100.0 * time / all.wall,
            one_time / time
        );
    };
    println!("\n{name}: {TIMES} steps\n");
    println!(
        "| operator | calls a step | us a step, 1 thread | us a step, {threads} threads | share | times as fast |"
    );
    println!("|---|---|---|---|---|---|");
    let mut sorted: Vec<_> = all.operators.iter().collect();
    sorted.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for (name, (time, calls)) in sorted {
        row(name, *calls as f64 / TIMES as f64, [one.of(name), *time]);
    }
    row("between operators", 0.0, [one.between_operators(), all.between_operators()]);
    row("outside the graph", 0.0, [one.outside(), all.outside()]);
    row("all", 0.0, [one.wall, all.wall]);
    if let Some(share) = serial_share(&one, &all) {
        println!("\nserial by Amdahl's law: {:.1} % of a step with one thread", 100.0 * share);
    }
}

/// The share `s` of the time with one thread for which `n` threads take `s + (1 - s) / n` of it (Amdahl, 1967).
fn serial_share(one: &Measured, all: &Measured) -> Option<f64> {
    let threads = all.threads as f64;
    (threads > 1.0).then(|| (threads * all.wall / one.wall - 1.0) / (threads - 1.0))
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (bundle, works) = arguments.split_first().expect("the folder of a bundle");
    let threads = match env::var("THREADS") {
        Ok(threads) => threads.parse().expect("THREADS is a number"),
        Err(_) => thread::available_parallelism().unwrap().get(),
    };
    match works {
        [] => WORKS.iter().for_each(|work| profile(bundle, work, threads)),
        works => works.iter().for_each(|work| profile(bundle, work, threads)),
    }
}
