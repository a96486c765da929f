//! What the program does to the process it is in: nothing leaves the host, and threads that the system refuses are an
//! error.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use crate::{
    common::root,
    program::{PROGRAM, stderr},
    tools::{have, offences, traced},
};

/// It runs for half a minute: longer than ONNX Runtime's reports wait.
#[test]
fn nothing_leaves_the_host() {
    if !have("strace") {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quiet");
    let (mut program, home, trace) = traced(&folder, Path::new(PROGRAM));
    program.args(["moderate", "--follow", "--prompt", "hi"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut program = program.spawn().unwrap();
    let mut input = program.stdin.take().unwrap();
    for _ in 0..30 {
        input.write_all(b"bread ").unwrap();
        std::thread::sleep(Duration::from_secs(1));
    }
    drop(input);
    assert!(program.wait().unwrap().success());
    assert_eq!(offences(&trace), [""; 0]);
    assert_eq!(fs::read_dir(home).unwrap().count(), 0);
}

/// Opens a guard of four threads where the user may have so many.
fn with_threads(folder: &Path, user: u32, threads: usize) -> Output {
    let limited =
        format!("ulimit -u {threads}; exec timeout 120 ./qwenguard --config config.toml moderate input.jsonl");
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), "--clear-groups", "bash", "-c", &limited]);
    command.current_dir(folder).env("ORT_DYLIB_PATH", folder).output().unwrap()
}

#[test]
fn threads_that_the_system_refuses_are_an_error() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: limits of threads can be tested by root only");
        return;
    }
    if !have("setpriv") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(PROGRAM, path.join("qwenguard")).unwrap();
    let runtime = std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| root().join("target/onnxruntime"), PathBuf::from);
    let runtime = if runtime.is_dir() { runtime.join("libonnxruntime.so") } else { runtime };
    fs::copy(runtime, path.join("libonnxruntime.so")).unwrap();
    fs::write(path.join("config.toml"), "runtime.threads = 4").unwrap();
    fs::write(path.join("input.jsonl"), "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n").unwrap();
    let user = 20_000 + std::process::id() % 20_000;
    let (mut refused, mut opened) = (0, 0);
    // `timeout`, the program, three threads for the session, the worker and the reader of the input.
    for threads in 2..=8 {
        let output = with_threads(path, user, threads);
        let (said, code) = (stderr(&output), output.status.code());
        match code {
            Some(0) => opened += 1,
            Some(1) => {
                // The last one that is missing may be the one that reads the input.
                let named = ["runtime.threads: the system gave", "starting a thread"];
                assert!(named.iter().any(|name| said.contains(name)) && said.lines().count() == 1, "{said}");
                refused += 1;
            }
            _ => panic!("{threads} threads: {code:?} {said}"),
        }
    }
    assert!(refused >= 3 && opened >= 1, "{refused} {opened}");
}
