//! A device that is lost, or has no memory left, in the middle of the work: on software Vulkan, whose loader has faults here
//! (tests/webgpu/faulty_vulkan.c). `make test-webgpu` runs these.
#![cfg(target_os = "linux")]

mod common;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::root;
use qwenguard::{Config, Error, Guard, Message, Provider, Stream, Verdict};

/// Faults that this process can turn on and off.
struct Faults(PathBuf);

impl Faults {
    fn on(&self, name: &str, number: u64) {
        fs::write(self.0.join(name), number.to_string()).unwrap();
    }

    fn off(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }
}

/// Where the real loader of Vulkan is: in a folder of LD_LIBRARY_PATH, or in one of the system.
fn vulkan() -> PathBuf {
    let folders = env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let mut libraries =
        folders.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join(LOADER));
    libraries.find(|library| library.is_file()).unwrap_or(LOADER.into())
}

const LOADER: &str = "libvulkan.so.1";

/// Runs a test again, in a process of its own whose Vulkan has faults. There, and only there, they are given.
fn in_a_process_with_faults(test: &str) -> Option<Faults> {
    if let Some(folder) = env::var_os("QWENGUARD_TEST_FAULTS") {
        return Some(Faults(folder.into()));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(folder.path().join(LOADER));
    let compiled =
        compiler.arg(root().join("tests/webgpu/faulty_vulkan.c")).arg("-ldl").output().expect("cc is missing");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let libraries = format!("{}:{}", folder.path().display(), env::var("LD_LIBRARY_PATH").unwrap_or_default());
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env("QWENGUARD_TEST_VULKAN", vulkan())
        .env("QWENGUARD_TEST_FAULTS", folder.path())
        .env("LD_LIBRARY_PATH", libraries)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{}", output.status);
    None
}

fn open(mib: usize) -> qwenguard::Result<Guard> {
    let mut config = Config::default();
    config.runtime.provider = Provider::WebGpu;
    config.cache.mib = mib;
    Guard::open_with(root().join("target/golden-gpu/grouped-bf16"), &config)
}

const QUESTION: &str = "How do I clean the kitchen?";

fn prompted(guard: &Guard) -> Stream {
    let mut stream = guard.stream().unwrap();
    stream.prompt(&[Message::user(QUESTION)]).unwrap();
    stream
}

fn push(stream: &mut Stream) -> qwenguard::Result<Vec<Verdict>> {
    let update = stream.push_text("Start with the counters and wipe them with warm water.")?;
    Ok(update.tokens.into_iter().map(|token| token.verdict).collect())
}

fn probabilities(verdicts: &[Verdict]) -> Vec<f32> {
    let all = verdicts.iter().flat_map(|verdict| verdict.risk_probabilities().map(|(_, p)| p).collect::<Vec<_>>());
    all.collect()
}

/// What a new conversation gets.
fn judge(guard: &Guard) -> qwenguard::Result<Vec<Verdict>> {
    let mut stream = guard.stream()?;
    stream.prompt(&[Message::user(QUESTION)])?;
    push(&mut stream)
}

/// The same but for what 16 bits round.
fn assert_alike(found: &[Verdict], expected: &[Verdict]) {
    let (found, expected) = (probabilities(found), probabilities(expected));
    assert!(!expected.is_empty() && found.len() == expected.len());
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-2), "{found:?}, not {expected:?}");
}

/// What one line says is wrong with the provider.
fn provider_error<T>(result: qwenguard::Result<T>) -> String {
    let Err(error) = result else { panic!("it worked") };
    let words = error.to_string();
    println!("{words}");
    assert!(matches!(error, Error::Provider { .. }) && !words.contains('\n'), "{words}");
    words
}

#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn a_lost_device_fails_its_streams_and_another_guard_works() {
    let test = "a_lost_device_fails_its_streams_and_another_guard_works";
    let Some(faults) = in_a_process_with_faults(test) else { return };
    let (guard, second) = (open(8).unwrap(), open(8).unwrap());
    let expected = push(&mut prompted(&guard)).unwrap();
    let (mut one, mut other) = (prompted(&guard), prompted(&guard));
    faults.on("lost", 0);
    assert!(provider_error(push(&mut one)).contains("is lost, drop this guard and open another"));
    faults.off("lost");
    // It stays lost, whoever asks.
    let before = guard.stats();
    assert!(provider_error(push(&mut one)).contains("is lost"));
    assert!(provider_error(push(&mut other)).contains("is lost"));
    let mut new = guard.stream().unwrap();
    assert!(provider_error(new.prompt(&[Message::user(QUESTION)])).contains("is lost"));
    assert!(guard.stats().failed_steps > before.failed_steps);
    drop((one, other, new));
    drop(guard);
    // The plugin keeps the device as long as somebody has it.
    assert!(provider_error(open(8)).contains("another guard still has it"));
    assert!(provider_error(second.stream().unwrap().prompt(&[Message::user(QUESTION)])).contains("is lost"));
    drop(second);
    let again = open(8).unwrap();
    assert_alike(&push(&mut prompted(&again)).unwrap(), &expected);
    assert_eq!(again.stats().failed_steps, 0);
}

#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn a_device_without_memory_is_an_error_of_opening() {
    let Some(faults) = in_a_process_with_faults("a_device_without_memory_is_an_error_of_opening") else { return };
    faults.on("memory", 24 << 20);
    let Err(error) = open(256) else { panic!("it was opened") };
    let words = error.to_string();
    println!("{words}");
    assert!(words.contains("cache.mib") && !words.contains('\n'), "{words}");
    faults.off("memory");
    // The process is none the worse for it.
    let expected = push(&mut prompted(&open(8).unwrap())).unwrap();
    assert_alike(&push(&mut prompted(&open(256).unwrap())).unwrap(), &expected);
}

/// A step that needs more memory than there is left.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn a_device_without_memory_in_the_middle_of_a_step_is_an_error_or_right() {
    let test = "a_device_without_memory_in_the_middle_of_a_step_is_an_error_or_right";
    let Some(faults) = in_a_process_with_faults(test) else { return };
    let guard = open(8).unwrap();
    let expected = push(&mut prompted(&guard)).unwrap();
    let long = "all that is said here is said again and again ".repeat(20);
    let mut whole = prompted(&guard);
    faults.on("memory", 0);
    let without = whole.push_text(&long);
    faults.off("memory");
    println!("{:?}", without.as_ref().err());
    drop(whole);
    // Whatever came of it, what is computed is right, and who is refused is told why.
    match judge(&guard) {
        Ok(verdicts) => assert_alike(&verdicts, &expected),
        Err(error) => println!("{}", provider_error::<()>(Err(error))),
    }
    if let Ok(update) = without {
        let verdicts: Vec<Verdict> = update.tokens.into_iter().map(|token| token.verdict).collect();
        let again = prompted(&guard).push_text(&long).unwrap();
        assert_alike(&verdicts, &again.tokens.into_iter().map(|token| token.verdict).collect::<Vec<_>>());
    }
    drop(guard);
    assert_alike(&push(&mut prompted(&open(8).unwrap())).unwrap(), &expected);
}

/// Two guards in a process share the device, and compute as if each were alone.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn guards_that_compute_at_the_same_time_do_not_meet() {
    let guards = [open(8).unwrap(), open(8).unwrap(), open(8).unwrap()];
    let expected = push(&mut prompted(&guards[0])).unwrap();
    std::thread::scope(|scope| {
        for guard in &guards {
            let expected = &expected;
            scope.spawn(move || {
                for _ in 0..6 {
                    assert_alike(&push(&mut prompted(guard)).unwrap(), expected);
                }
            });
        }
        // And others come and go.
        for _ in 0..3 {
            drop(open(8).unwrap());
        }
    });
}
