//! Where the time of a step goes: `cargo bench --features _internals --bench profile -- BUNDLE [WORK...]`, with works such as
//! `16x1@1000`. Times are those of ONNX Runtime's profiler, which itself takes some: compare shares, not steps.

mod common;

use std::{collections::BTreeMap, fs};

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

/// The table of one kind of step. A guard's profile is written when it is dropped, so each has a guard of its own.
fn profile(bundle: &str, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    internals::profile_sessions(Some(folder.path().join("profile")));
    let mut config = Config::default();
    config.cache.mib = 4096;
    let mut steps = Steps::new(Guard::open_with(bundle, &config).unwrap());
    let work = Work::parse(name);
    steps.warm_up(work);
    let before = steps.guard.stats().steps;
    let wall = 1e3 * (0..TIMES).map(|_| steps.step(work)).sum::<f64>();
    let runs = (steps.guard.stats().steps - before) as usize;
    drop(steps);
    internals::profile_sessions(None);
    let file = fs::read_dir(folder.path()).unwrap().next().expect("a profile").unwrap();
    let (operators, graph) = read(&fs::read_to_string(file.path()).unwrap(), runs);

    let row = |name: &str, calls: f64, time: f64| {
        println!("| {name} | {calls:.0} | {:.0} | {:.1} % |", time / TIMES as f64, 100.0 * time / wall);
    };
    println!("\n{name}: {runs} runs of the graph in {TIMES} steps\n");
    println!("| operator | calls a step | us a step | share |");
    println!("|---|---|---|---|");
    let mut sorted: Vec<_> = operators.iter().collect();
    sorted.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for (name, (time, calls)) in sorted {
        row(name, *calls as f64 / TIMES as f64, *time);
    }
    row("between operators", 0.0, graph - operators.values().map(|(time, _)| time).sum::<f64>());
    row("outside the graph", 0.0, wall - graph);
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (bundle, works) = arguments.split_first().expect("the folder of a bundle");
    match works {
        [] => WORKS.iter().for_each(|work| profile(bundle, work)),
        works => works.iter().for_each(|work| profile(bundle, work)),
    }
}
