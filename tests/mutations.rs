//! Mutated bundles, configurations and templates give an error or work: no signal, no panic, no hang, no 2 GiB. Each
//! case runs in a child process, so that a signal is seen; the children are this program again.
//!
//! `make test` runs a few hundred cases, `make fuzz-bundles` ten thousand. QWENGUARD_MUTATIONS says how many, and
//! QWENGUARD_MUTATIONS_FROM=N with QWENGUARD_MUTATIONS=1 runs case N alone.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/mutate.rs"]
mod mutate;

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use mutate::{Case, Choices, Files};

const CASES: usize = 320;
/// Cases of one child.
const CHUNK: usize = 40;
/// Address space of a child, in bytes: what may be taken, whether it is used or not.
const MEMORY: u64 = 2 << 30;
/// Processor time of a case, in seconds.
const SECONDS: f64 = 10.0;
/// How long a child may say nothing at all before it counts as hung. Generous: the machine may be busy.
const SILENCE: Duration = Duration::from_secs(300);
const CHILD: &str = "QWENGUARD_MUTATIONS_CHILD";

#[test]
fn mutated_bundles_are_refused_or_work() {
    if let Ok(range) = std::env::var(CHILD) {
        let (from, to) = range.split_once(' ').unwrap();
        return child(from.parse().unwrap(), to.parse().unwrap());
    }
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let (count, first) = (number("QWENGUARD_MUTATIONS", CASES), number("QWENGUARD_MUTATIONS_FROM", 0));
    let mut failures = Vec::new();
    let mut opened = 0;
    let mut next = first;
    while next < first + count {
        let outcome = run(next, (next + CHUNK).min(first + count));
        opened += outcome.opened;
        next = match outcome.failure {
            None => (next + CHUNK).min(first + count),
            Some((case, reason)) => {
                println!("case {case}: {reason}");
                failures.push(case);
                case + 1
            }
        };
    }
    println!("{count} cases, {opened} of them opened, {} failed", failures.len());
    assert!(failures.is_empty(), "cases {failures:?}, see above");
    // Both happen, or the generator has lost its way.
    assert!(count < CASES || (count / 20..count * 19 / 20).contains(&opened), "{opened} of {count} opened");
}

struct Outcome {
    opened: usize,
    /// The case and what went wrong.
    failure: Option<(usize, String)>,
}

/// Runs some cases in a child.
fn run(from: usize, to: usize) -> Outcome {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mutated_bundles_are_refused_or_work", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{from} {to}"))
        .env_remove("RUST_BACKTRACE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, said) = mpsc::channel();
    for (name, pipe) in [
        ("out", Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>),
        ("err", Box::new(child.stderr.take().unwrap())),
    ] {
        let lines = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                let _ = lines.send((name, line));
            }
        });
    }
    drop(lines);
    let (mut current, mut opened, mut failure) = (from, 0, None);
    loop {
        let (pipe, line) = match said.recv_timeout(SILENCE) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                failure = Some("it hangs".to_owned());
                child.kill().unwrap();
                break;
            }
        };
        if let Some(case) = line.strip_prefix("begin ") {
            current = case.parse().unwrap();
        }
        opened += usize::from(line.starts_with("opened"));
        let bad = line.contains("panicked") || line.starts_with("WRONG") || line.contains("overflowed its stack");
        if bad && failure.is_none() {
            failure = Some(format!("{pipe}: {line}"));
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    if !status.success() && failure.is_none() {
        failure = Some(format!("{status}"));
    }
    Outcome { opened, failure: failure.map(|failure| (current, failure)) }
}

/// The cases of a child, one after the other.
fn child(from: usize, to: usize) {
    limit(libc::RLIMIT_AS, MEMORY);
    limit(libc::RLIMIT_CORE, 0);
    let mut streams = ["int8", "fp32", "int4"].map(|precision| common::bundle("grouped-bf16", precision)).to_vec();
    streams.push(common::bundle("odd-bf16", "int4-zero-points"));
    let writers = ["int8", "fp32"].map(|precision| common::gen_bundle("tied-bf16", precision));
    let bases: Vec<Files> = streams.iter().chain(&writers).map(|folder| Files::read(folder)).collect();
    let mut out = std::io::stdout().lock();
    for number in from..to {
        writeln!(out, "begin {number}").unwrap();
        out.flush().unwrap();
        // In a case that ends the process its folder stays, for whoever looks for the reason.
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mutation-{number}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let case = Case::new(&bases[number % bases.len()], &mut Choices::new(&(number as u64).to_le_bytes()));
        case.write(&folder);
        let before = processor_seconds();
        let result = mutate::judge(&folder, &case.config);
        let seconds = processor_seconds() - before;
        let word = if result.is_ok() { "opened" } else { "refused" };
        writeln!(out, "{word} {:?}: {}", case.story, result.err().unwrap_or_default()).unwrap();
        if seconds > SECONDS {
            writeln!(out, "WRONG: {seconds} s of processor time").unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: a limit for this process.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the time.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
