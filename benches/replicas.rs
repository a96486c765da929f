//! What several guards on one bundle take of the memory: `cargo bench --bench replicas -- BUNDLE`; Linux only. Processes, and guards in
//! one process, map the same file of weights, which is in the page cache once. Proportional set size (PSS) divides such pages
//! among those that map them, so it says what one more guard costs.

mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use common::{RandomTokens, streams_at};
use qwenguard::{Config, Guard, Stream};

const REPLICAS: [usize; 3] = [1, 2, 4];
/// Tokens that each guard judges, so that it has used all of its weights.
const CONTEXT: usize = 256;

/// Opens guards and judges with each; what they need stays until they are dropped.
fn guards(bundle: &str, count: usize) -> Vec<(Guard, Vec<Stream>)> {
    let open = || {
        let mut config = Config::default();
        config.runtime.threads = 1;
        config.cache.mib = 64;
        let guard = Guard::open_with(bundle, &config).unwrap();
        let streams = streams_at(&guard, &mut RandomTokens::new(&guard), 1, CONTEXT);
        (guard, streams)
    };
    (0..count).map(|_| open()).collect()
}

/// A process with so many guards, which waits until it is let go.
fn start(bundle: &str, guards: usize) -> Child {
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["hold", bundle, &guards.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n", "a process opens {bundle}");
    process
}

fn hold(bundle: &str, count: usize) {
    let guards = guards(bundle, count);
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    drop(guards);
}

/// MiB of a process, summed over its mappings.
fn mib(process: &Child, field: &str) -> f64 {
    let file = format!("/proc/{}/smaps_rollup", process.id());
    let rollup = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = rollup.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect(field);
    line.trim().strip_suffix(" kB").unwrap().parse::<f64>().unwrap() / 1024.0
}

/// A row of the table: processes with some guards each.
fn row(bundle: &str, processes: usize, guards: usize) {
    let mut running: Vec<Child> = (0..processes).map(|_| start(bundle, guards)).collect();
    let sum = |field| running.iter().map(|process| mib(process, field)).sum::<f64>();
    let [resident, proportional, private] = [sum("Rss"), sum("Pss"), sum("Private_Dirty") + sum("Private_Clean")];
    println!("| {processes} | {guards} | {resident:.0} | {proportional:.0} | {private:.0} |");
    for process in &mut running {
        process.stdin.take().unwrap().write_all(b"\n").unwrap();
        process.wait().unwrap();
    }
}

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hold", bundle, count] => hold(bundle, count.parse().unwrap()),
        [bundle] => {
            println!(
                "| processes | guards each | resident, MiB in all | proportional, MiB in all | private, MiB in all |"
            );
            println!("|---|---|---|---|---|");
            REPLICAS.iter().for_each(|count| row(bundle, *count, 1));
            REPLICAS[1..].iter().for_each(|count| row(bundle, 1, *count));
        }
        _ => panic!("the folder of a bundle"),
    }
}
