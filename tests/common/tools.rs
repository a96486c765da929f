//! Other programs that tests run.

use std::process::Command;
#[cfg(target_os = "linux")]
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whether there is such a program.
pub(crate) fn have(program: &str) -> bool {
    let have = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !have {
        let required = std::env::var("QWENGUARD_REQUIRE_TOOLCHAINS").is_ok_and(|value| value == "1");
        assert!(!required, "{program} is missing");
        println!("SKIPPED: {program} is missing");
        eprintln!("SKIPPED: {program} is missing");
    }
    have
}

/// A command under strace with nothing in its environment but an empty home; the home and the trace, in this folder.
#[cfg(target_os = "linux")]
pub(crate) fn traced(folder: &Path, program: &Path) -> (Command, PathBuf, PathBuf) {
    let _ = fs::remove_dir_all(folder);
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
#[cfg(target_os = "linux")]
pub(crate) fn offences(trace: &Path) -> Vec<String> {
    let lines = fs::read_to_string(trace).unwrap();
    assert!(lines.contains("libonnxruntime"), "ONNX Runtime was not opened: {lines}");
    let opens = |line: &str| ["open(", "openat(", "openat2("].iter().any(|call| line.contains(call));
    let writes = |line: &str| ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
    let harmless =
        |line: &str| line.contains("+++") || opens(line) && (!writes(line) || line.contains("\"/dev/null\""));
    lines.lines().filter(|line| !line.contains("resumed>") && !harmless(line)).map(str::to_owned).collect()
}
