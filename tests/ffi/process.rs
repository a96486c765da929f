//! What the library does to the process it is in, and what the process may do: nothing leaves the host, forks, threads that
//! the system refuses, and an ONNX Runtime that cannot be used.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use super::native::{Build, C, have, library, root, run, scratch};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qwenguard");

fn c_program(name: &str, flags: &[&str], as_name: &str) -> PathBuf {
    let source = root().join(format!("tests/c/{name}.c"));
    Build { source, name: as_name, compiler: "cc", flags, shared: true }.program()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

/// A command under strace with nothing in its environment but an empty home.
fn traced(name: &str, program: &Path) -> (Command, PathBuf, PathBuf) {
    let folder = scratch("quiet").join(name);
    let _ = fs::remove_dir_all(&folder);
    let home = folder.join("home");
    fs::create_dir_all(&home).unwrap();
    let trace = folder.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-s", "256", "-e", "signal=none"]);
    let calls = "%network,io_uring_setup,open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,\
                 rename,renameat,renameat2,memfd_create";
    command.args(["-e", &format!("trace={calls}"), "-o"]);
    command.arg(&trace).arg(program).env_clear().env("HOME", &home).current_dir(&home);
    command.env("ORT_DYLIB_PATH", std::env::var_os("ORT_DYLIB_PATH").unwrap_or_default());
    (command, home, trace)
}

/// What a trace has of sockets and of files that were made or may be written.
fn offences(trace: &Path) -> Vec<String> {
    let lines = fs::read_to_string(trace).unwrap();
    assert!(lines.contains("libonnxruntime"), "ONNX Runtime was not opened: {lines}");
    let opens = |line: &str| ["open(", "openat(", "openat2("].iter().any(|call| line.contains(call));
    let writes = |line: &str| ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
    let harmless =
        |line: &str| line.contains("+++") || opens(line) && (!writes(line) || line.contains("\"/dev/null\""));
    lines.lines().filter(|line| !line.contains("resumed>") && !harmless(line)).map(str::to_owned).collect()
}

/// The whole of it runs for half a minute: longer than ONNX Runtime's reports wait.
#[test]
fn nothing_leaves_the_host() {
    if !have("cc") || !have("strace") {
        return;
    }
    let program = c_program("quiet", &C, "quiet");
    let (mut quiet, quiet_home, quiet_trace) = traced("library", &program);
    let mut quiet = quiet.arg("30").spawn().unwrap();
    let (mut line, line_home, line_trace) = traced("command-line", Path::new(PROGRAM));
    line.args(["moderate", "--follow", "--prompt", "hi"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut line = line.spawn().unwrap();
    let mut input = line.stdin.take().unwrap();
    for _ in 0..30 {
        input.write_all(b"bread ").unwrap();
        std::thread::sleep(Duration::from_secs(1));
    }
    drop(input);
    assert!(line.wait().unwrap().success() && quiet.wait().unwrap().success());
    for (home, trace) in [(quiet_home, quiet_trace), (line_home, line_trace)] {
        assert_eq!(offences(&trace), [""; 0]);
        assert_eq!(fs::read_dir(home).unwrap().count(), 0);
    }
}

#[test]
fn a_trace_shows_what_leaves_the_host() {
    if have("cc") && have("strace") {
        let (mut loud, home, trace) = traced("loud", &c_program("quiet", &C, "loud"));
        assert!(loud.args(["1", "made"]).status().unwrap().success());
        let found = offences(&trace);
        assert!(found.len() == 2 && found[0].contains("socket(AF_UNIX") && found[1].contains("made"), "{found:?}");
        assert!(home.join("made").exists());
    }
}

// --- Threads

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
    // SAFETY: it has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
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
        let (said, code) = (text(&output.stderr), output.status.code());
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
