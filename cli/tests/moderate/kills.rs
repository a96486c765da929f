//! `qwenguard annotate INPUT --out FOLDER`, killed at random moments.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant, SystemTime},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tempfile::TempDir;

#[cfg(feature = "parquet")]
use crate::files::parquet_files;
use crate::{
    files::{STREAM, contents, folder_with, read_lines, rows},
    program::qwenguard,
};

/// A data set with the ids 0, 1, 2, ... whose annotation is killed.
struct Victim {
    folder: TempDir,
    input: &'static str,
    part_rows: usize,
    count: usize,
    /// The exit code of a run that ends by itself.
    code: i32,
    ids: fn(&Path) -> Vec<u64>,
}

/// How long a run takes.
struct Times {
    manifest: Duration,
    first_part: Duration,
    all: Duration,
}

/// How many kills came when.
#[derive(Debug, Default)]
struct Tally {
    before_the_manifest: usize,
    before_the_first_part: usize,
    later: usize,
    /// Runs that ended before they were to be killed.
    too_late: usize,
}

impl Tally {
    fn hits(&self) -> usize {
        self.before_the_manifest + self.before_the_first_part + self.later
    }
}

impl Victim {
    fn lines(count: usize, part_rows: usize) -> Self {
        let ids = |part: &Path| {
            let id = |line: &String| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap();
            read_lines(part).iter().map(id).collect()
        };
        Victim { folder: folder_with("in.jsonl", &rows(count)), input: "in.jsonl", part_rows, count, code: 3, ids }
    }

    /// Of one row nothing can be judged.
    #[cfg(feature = "parquet")]
    fn table(count: usize, part_rows: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let batch = parquet_files::batch(0, i32::try_from(count).unwrap());
        parquet_files::write(&folder.path().join("in.parquet"), &[batch]);
        Victim { folder, input: "in.parquet", part_rows, count, code: 4, ids: parquet_files::ids }
    }

    fn out(&self, out: &str) -> PathBuf {
        self.folder.path().join(out)
    }

    fn start(&self, out: &str) -> Child {
        let (input, out, part_rows) = (self.out(self.input), self.out(out), self.part_rows.to_string());
        let paths = [input.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let arguments = ["--part-rows", &*part_rows, "--jobs", "16"];
        let errors = File::create(self.out("errors")).unwrap();
        qwenguard(&[&["annotate"], &STREAM[..], &paths, &arguments].concat()).stderr(errors).spawn().unwrap()
    }

    /// Waits for a run that nobody kills.
    fn end(&self, mut run: Child) {
        let code = run.wait().unwrap().code();
        assert_eq!(code, Some(self.code), "{}", fs::read_to_string(self.out("errors")).unwrap());
    }

    /// The run that all others are compared with.
    fn whole(&self) -> Times {
        let begun = Instant::now();
        let mut run = self.start("whole");
        let out = self.out("whole");
        let mut until = |there: &dyn Fn() -> bool| {
            while run.try_wait().unwrap().is_none() && !there() {
                std::thread::sleep(Duration::from_millis(1));
            }
            begun.elapsed()
        };
        let manifest = until(&|| out.join("_manifest.json").exists());
        let first_part = until(&|| !parts(&out).is_empty());
        self.end(run);
        Times { manifest, first_part, all: begun.elapsed() }
    }

    /// Kills a run after a delay. Whether it did not end by itself before.
    fn kill(&self, delay: Duration, tally: &mut Tally) -> bool {
        let out = self.out("killed");
        let (before, lines) = (parts(&out), log(&out));
        let mut run = self.start("killed");
        std::thread::sleep(delay);
        if run.try_wait().unwrap().is_some() {
            self.end(run);
            tally.too_late += 1;
            return false;
        }
        run.kill().unwrap();
        run.wait().unwrap();
        let (after, now) = (parts(&out), log(&out));
        *match (out.join("_manifest.json").exists(), after.is_empty()) {
            (false, _) => &mut tally.before_the_manifest,
            (true, true) => &mut tally.before_the_first_part,
            (true, false) => &mut tally.later,
        } += 1;
        let again = before.iter().filter(|(name, time)| after.get(*name) != Some(*time)).count();
        assert!(again <= 1, "{again} parts were made twice");
        assert!(now.starts_with(&lines), "parts that were done are done no more");
        assert!(after.len() <= now.len() + 1, "{} parts, of which {} are known", after.len(), now.len());
        true
    }

    /// The folder is as that of the run that nobody killed, with all rows once.
    fn check(&self) {
        let out = self.out("killed");
        let (whole, killed) = (contents(&self.out("whole")), contents(&out));
        assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
        for (name, bytes) in &whole {
            assert!(killed[name] == *bytes, "{name} differs");
        }
        let ids: Vec<u64> = parts(&out).keys().flat_map(|part| (self.ids)(part)).collect();
        assert_eq!(ids, (0..self.count as u64).collect::<Vec<_>>());
        // When all is done nothing is done again.
        let before = parts(&out);
        self.end(self.start("killed"));
        assert_eq!(parts(&out), before);
    }
}

/// Kills runs until so many did not end before. The moments are random. The first quarter: in a new folder from what a run needs for
/// its manifest, and then, as the run goes on there, from what it needs for its first part. Then one in four of the others from
/// that, too, and the rest from so much more that the work would last for them all. A run that ends before its kill is
/// checked, and the next one begins in a new folder.
fn kill_and_go_on(victim: &Victim, kills: usize) {
    let seed = std::env::var("KILL_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse::<u64>().unwrap());
    println!("KILL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let Times { manifest, first_part, all } = victim.whole();
    // Of a short run most would be killed at its start otherwise.
    let piece = first_part.max((all - first_part) * 2 / u32::try_from(kills).unwrap());
    let mut tally = Tally::default();
    while tally.hits() < kills {
        let first = tally.hits() < kills.div_ceil(4);
        let is_new = first && tally.hits().is_multiple_of(2);
        if is_new && victim.out("killed").exists() {
            fs::remove_dir_all(victim.out("killed")).unwrap();
        }
        let most = match first || random.random_range(0..4) == 0 {
            _ if is_new => manifest,
            true => first_part,
            false => first_part + piece,
        };
        if !victim.kill(random.random_range(Duration::ZERO..most), &mut tally) {
            assert!(tally.too_late < 10 * kills, "{tally:?}: the runs end before they can be killed");
            victim.check();
            fs::remove_dir_all(victim.out("killed")).unwrap();
        }
    }
    println!("{tally:?}");
    victim.end(victim.start("killed"));
    victim.check();
}

/// The parts of a folder, and when each was written.
fn parts(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let parts = entries.map(|entry| entry.unwrap().path());
    let parts = parts.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("part-"));
    parts.map(|path| (path.clone(), fs::metadata(&path).unwrap().modified().unwrap())).collect()
}

/// The whole lines about parts that are done.
fn log(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("_parts.jsonl")).unwrap_or_default();
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
}

#[test]
fn a_run_of_lines_that_was_killed_goes_on() {
    kill_and_go_on(&Victim::lines(240, 15), 6);
}

#[cfg(feature = "parquet")]
#[test]
fn a_run_of_a_table_that_was_killed_goes_on() {
    kill_and_go_on(&Victim::table(240, 15), 6);
}

/// The same with 20,000 rows: `make test-kill`.
#[test]
#[ignore = "takes minutes"]
fn a_long_run_of_lines_that_was_killed_twenty_times_goes_on() {
    kill_and_go_on(&Victim::lines(20_000, 200), 20);
}

#[cfg(feature = "parquet")]
#[test]
#[ignore = "takes minutes"]
fn a_long_run_of_a_table_that_was_killed_twenty_times_goes_on() {
    kill_and_go_on(&Victim::table(20_000, 200), 20);
}
