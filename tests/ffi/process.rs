//! What the library does to the process it is in, and what the process may do: nothing leaves the host, forks, and an ONNX
//! Runtime that cannot be used.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::native::{Build, C, have, library, root, run, scratch};
use crate::tools::{offences, traced};

fn c_program(name: &str, flags: &[&str], as_name: &str) -> PathBuf {
    let source = root().join(format!("tests/c/{name}.c"));
    Build { source, name: as_name, compiler: "cc", flags, shared: true }.program()
}

// --- Forks

#[test]
fn children_are_told_and_parents_go_on() {
    if have("cc") {
        run(&mut Command::new(c_program("fork", &C, "fork")));
    }
}

/// A child has its parent's memory and leaks it on purpose.
#[test]
fn forks_under_sanitizers() {
    if have("cc") {
        let flags: Vec<&str> = C.into_iter().chain(["-fsanitize=address,undefined"]).collect();
        run(Command::new(c_program("fork", &flags, "fork-asan")).arg("still").env("ASAN_OPTIONS", "detect_leaks=0"));
    }
}

#[test]
fn forks_in_python() {
    if have("python3") {
        let script = root().join("tests/ffi/fork.py");
        let said = run(Command::new("python3").arg("-Walways").arg(script).arg(library().join("libqwenguard.so")));
        assert_eq!(said, "ok\n");
    }
}

// --- What leaves the host

/// It runs for half a minute: longer than ONNX Runtime's reports wait.
#[test]
fn nothing_leaves_the_host() {
    if have("cc") && have("strace") {
        let (mut quiet, home, trace) = traced(&scratch("quiet").join("library"), &c_program("quiet", &C, "quiet"));
        assert!(quiet.arg("30").status().unwrap().success());
        assert_eq!(offences(&trace), [""; 0]);
        assert_eq!(fs::read_dir(home).unwrap().count(), 0);
    }
}

#[test]
fn a_trace_shows_what_leaves_the_host() {
    if have("cc") && have("strace") {
        let (mut loud, home, trace) = traced(&scratch("quiet").join("loud"), &c_program("quiet", &C, "loud"));
        assert!(loud.args(["1", "made"]).status().unwrap().success());
        let found = offences(&trace);
        assert!(found.len() == 2 && found[0].contains("socket(AF_UNIX") && found[1].contains("made"), "{found:?}");
        assert!(home.join("made").exists());
    }
}

// --- Loading ONNX Runtime

/// A folder with a library of fake_runtime.c.
fn fake_runtime(name: &str, flags: &[&str]) -> PathBuf {
    let folder = scratch("runtimes").join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC"]).arg(root().join("tests/c/fake_runtime.c")).args(flags);
    run(command.arg("-o").arg(folder.join("libonnxruntime.so")));
    folder
}

/// What opening a guard says with this ONNX Runtime.
fn said_of(program: &Path, runtime: &Path) -> String {
    run(Command::new(program).env("ORT_DYLIB_PATH", runtime).env_remove("ORT_DISABLE_TELEMETRY"))
}

#[test]
fn an_unusable_runtime_is_refused_with_the_reason() {
    if !have("cc") {
        return;
    }
    let program = c_program("open", &C, "open");
    let unusable = |runtime: &Path, parts: &[&str]| {
        let said = said_of(&program, runtime);
        assert!(said.starts_with("2 ONNX Runtime at ") && said.lines().count() == 1, "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    let folder = scratch("runtimes");
    // The words of the loader.
    run(Command::new("cc")
        .args(["-shared", "-fPIC"])
        .arg(root().join("tests/c/fake_runtime.c"))
        .arg("-o")
        .arg(folder.join("libx_missing.so")));
    let needed = format!("-L{}", folder.display());
    let missing = fake_runtime("missing", &["-DMISSING", &needed, "-lx_missing"]);
    fs::remove_file(folder.join("libx_missing.so")).unwrap();
    unusable(&missing, &["libx_missing.so: cannot open shared object file"]);
    let damaged = folder.join("damaged.so");
    fs::write(&damaged, "not a library").unwrap();
    unusable(&damaged, &["file too short"]);
    unusable(&fake_runtime("other", &[]), &["it is not ONNX Runtime", "undefined symbol: OrtGetApiBase"]);
    // Versions.
    let version = |version: &str, mark: &str| {
        fake_runtime(version, &[&format!("-DVERSION=\"{version}\""), &format!("-DMARK=\"{mark}\"")])
    };
    for old in ["1.22.1", "1.9.0"] {
        unusable(&version(old, ""), &[&format!("version {old} is too old, 1.23.0 or newer is needed")]);
    }
    unusable(
        &version("1.31.1", "ORT_DISABLE_TELEMETRY"),
        &["1.31.1", "ORT_DISABLE_TELEMETRY=1", "runtime.allow_telemetry"],
    );
    unusable(&version("1.40.0", "https://mobile.events.data.microsoft.com/"), &["1.40.0", "ORT_DISABLE_TELEMETRY=1"]);
}

/// A host that has loaded ONNX Runtime itself gets no second copy, and one that is of no use is passed over.
#[test]
fn a_runtime_that_is_loaded_is_taken() {
    if !have("cc") {
        return;
    }
    let source = root().join("packaging/samples/loaded.c");
    let flags: Vec<&str> = C.into_iter().chain(["-ldl"]).collect();
    let program = Build { source, name: "loaded", compiler: "cc", flags: &flags, shared: true }.program();
    let ours = root().join("target/onnxruntime/libonnxruntime.so").canonicalize().unwrap();
    let hosts = scratch("loaded").canonicalize().unwrap().join("libonnxruntime.so.1.99.0");
    let _ = fs::remove_file(&hosts);
    fs::copy(&ours, &hosts).unwrap();
    let mapped = |command: &mut Command| {
        let mut paths: Vec<_> = run(command).lines().map(|line| PathBuf::from(&line["mapped: ".len()..])).collect();
        paths.sort();
        paths
    };
    let alone = || {
        let mut command = Command::new(&program);
        command.env_remove("ORT_DYLIB_PATH");
        command
    };
    assert_eq!(mapped(alone().arg(&hosts)), std::slice::from_ref(&hosts));
    // A place that somebody named comes first.
    let mut both = [ours.clone(), hosts.clone()];
    both.sort();
    assert_eq!(mapped(alone().arg(&hosts).env("ORT_DYLIB_PATH", &ours)), both);
    let old = fake_runtime("loaded-old", &["-DVERSION=\"1.22.1\"", "-DMARK=\"\""]).join("libonnxruntime.so");
    let output = alone().arg(&old).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = format!("loaded in this process: {}: version 1.22.1 is too old", old.display());
    assert!(output.status.success() || said.contains(&expected), "{said}");
}
