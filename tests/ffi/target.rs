//! The platform that the programs in C and C++ are made for. It is this one, or what QWENGUARD_TEST_TARGET names: then they
//! are cross-compiled, and run by QWENGUARD_TEST_RUNNER, as `make test-windows` and `make test-aarch64` do.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The triple of another platform.
pub(crate) fn cross() -> Option<String> {
    env::var("QWENGUARD_TEST_TARGET").ok().filter(|target| !target.is_empty())
}

pub(crate) fn is_windows() -> bool {
    cross().is_some_and(|target| target.contains("windows"))
}

/// What a tool of the compiler's, such as `cc`, `c++` or `nm`, is called for the platform.
pub(crate) fn tool(name: &str) -> String {
    let Some(target) = cross() else { return name.to_owned() };
    let prefix = match target.as_str() {
        "x86_64-pc-windows-gnu" => "x86_64-w64-mingw32",
        "aarch64-unknown-linux-gnu" => "aarch64-linux-gnu",
        _ => panic!("there is no rule for {target}"),
    };
    match (name, is_windows()) {
        // The compiler whose threads are those of POSIX.
        ("cc", true) => format!("{prefix}-gcc-posix"),
        ("c++", true) => format!("{prefix}-g++-posix"),
        ("cc", false) => format!("{prefix}-gcc"),
        ("c++", false) => format!("{prefix}-g++"),
        _ => format!("{prefix}-{name}"),
    }
}

/// Flags of sanitizers, which work on this platform alone.
pub(crate) fn sanitizers<'a>(flags: &'a [&'a str]) -> &'a [&'a str] {
    if cross().is_some() { &[] } else { flags }
}

/// What the static library wants from the system. It stands in the pkg-config file too.
pub(crate) fn system_libraries() -> &'static str {
    if is_windows() { "-lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp" } else { super::native::SYSTEM_LIBRARIES }
}

/// The file that a linker is to write for a program.
pub(crate) fn linked(program: &Path) -> PathBuf {
    match cross() {
        None => program.to_owned(),
        Some(_) if is_windows() => program.with_added_extension("exe"),
        Some(_) => program.with_added_extension("bin"),
    }
}

/// Makes the program that was linked one that can be run here: it finds shared libraries in a folder.
pub(crate) fn runnable(program: &Path, libraries: &Path) {
    if cross().is_none() {
        return;
    }
    let runner = env::var("QWENGUARD_TEST_RUNNER").expect("QWENGUARD_TEST_RUNNER runs programs of that platform");
    let (linked, libraries) = (linked(program), libraries.display());
    // Those of the compiler's own libraries that the programs need.
    let compiler = "Z:/usr/lib/gcc/x86_64-w64-mingw32/12-posix;Z:/usr/x86_64-w64-mingw32/lib";
    let script =
        format!("#!/bin/sh\nexport WINEPATH='Z:{libraries};{compiler}'\nexec {runner} '{}' \"$@\"\n", linked.display());
    fs::write(program, script).unwrap();
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}
