//! The C++ classes.

use std::{fs, path::PathBuf, process::Command};

use super::{
    native::{Build, first_program, have, moderates_the_samples, page_with, root, run, scratch},
    target,
};

const FLAGS: [&str; 5] = ["-std=c++17", "-Wall", "-Wextra", "-pedantic", "-Werror"];

fn program(source: PathBuf, name: &str, flags: &[&str]) -> PathBuf {
    Build { source, name, compiler: "c++", flags, shared: true }.program()
}

/// With exceptions and without in one program, under sanitizers: all but the one that needs types at run time, which one
/// half does without.
#[test]
fn exceptions_and_results() {
    if !have("c++") {
        return;
    }
    let sanitizers =
        target::sanitizers(&["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"]);
    let object = scratch("bin").join("results.o");
    let mut command = Command::new(target::tool("c++"));
    command.args(FLAGS).args(sanitizers).args(["-g", "-fno-exceptions", "-fno-rtti", "-I"]).arg(root().join("include"));
    run(command.arg("-c").arg(root().join("tests/cpp/results.cpp")).arg("-o").arg(&object));
    // The object stands first of the inputs, whose language is given, so it is given too.
    let flags = [&FLAGS, sanitizers, &[object.to_str().unwrap()]].concat();
    run(&mut Command::new(program(root().join("tests/cpp/exceptions.cpp"), "exceptions", &flags)));
}

#[test]
fn the_header_is_also_cpp20() {
    if have("c++") {
        for flags in [&[][..], &["-DQWENGUARD_NO_EXCEPTIONS", "-fno-exceptions"], &["-fno-exceptions"]] {
            let mut command = Command::new("c++");
            command.args([
                "-std=c++20",
                "-Wall",
                "-Wextra",
                "-pedantic",
                "-Werror",
                "-fsyntax-only",
                "-x",
                "c++",
                "-I",
            ]);
            run(command.arg(root().join("include")).args(flags).arg(root().join("include/qwenguard.hpp")));
        }
    }
}

#[test]
fn the_vectors() {
    if have("c++") {
        let vectors = program(root().join("tests/cpp/vectors.cpp"), "vectors", &FLAGS);
        let file = |name: &str| root().join("tests/vectors").join(name);
        let mut command = Command::new(vectors);
        command.arg(root()).args(["vectors.json", "opinions.json", "built_in_opinions.json"].map(file));
        let said = run(&mut command);
        assert_eq!(said.matches(" steps").count(), 3, "{said}");
    }
}

/// On the provider that QWENGUARD_TEST_PROVIDER names.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn cpp_vectors_on_another_provider() {
    if have("c++") {
        let vectors = program(root().join("tests/cpp/vectors.cpp"), "vectors", &FLAGS);
        let said = run(Command::new(vectors).arg(root()).arg(root().join("tests/vectors/vectors.json")));
        assert!(said.contains(" steps"), "{said}");
    }
}

#[test]
fn the_annotations() {
    if have("c++") {
        let annotations = program(root().join("tests/cpp/annotations.cpp"), "annotations-cpp", &FLAGS);
        let said = run(Command::new(annotations).arg(root().join("tests/vectors/annotations.json")).arg(root()));
        assert!(said.contains(" cases"), "{said}");
    }
}

#[test]
fn the_page() {
    if have("c++") {
        let source = first_program("bindings/cpp/README.md", "cpp");
        let said = run(&mut Command::new(program(source, "page", &FLAGS)));
        assert!(
            said.starts_with("may be shown: ") && said.contains("cut: Unsafe, answer.strict: 2 consecutive"),
            "{said}"
        );
    }
}

#[test]
fn the_page_annotates() {
    if have("c++") {
        let main = "int main() { annotate(qwenguard::Guard::nano_gen()); }";
        let source = page_with("bindings/cpp/README.md", "cpp", "annotate", main);
        let said = run(&mut Command::new(program(source, "page-annotates", &FLAGS)));
        assert_eq!(said, "Unsafe\ncategory: Violent\nstop: answer.strict\nloose: found\n");
    }
}

#[test]
fn the_example_moderates_the_samples() {
    if have("c++") {
        let source = root().join("bindings/cpp/examples/chat_server_tick.cpp");
        moderates_the_samples(&run(&mut Command::new(program(source, "chat_server_tick", &FLAGS))));
    }
}

/// Every number and every function of the C header is in the C++ header.
#[test]
fn nothing_is_missing() {
    let (c, cpp) = (
        fs::read_to_string(root().join("include/qwenguard.h")),
        fs::read_to_string(root().join("include/qwenguard.hpp")),
    );
    let (c, cpp) = (c.unwrap(), cpp.unwrap());
    let numbers = c.lines().filter_map(|line| line.strip_prefix("#define QG_")?.split(' ').next());
    let elsewhere = ["MAX_CATEGORIES", "VERSION_MAJOR", "VERSION_MINOR", "VERSION_PATCH", "VERSION_NUMBER"];
    for name in numbers.filter(|name| !elsewhere.contains(name)) {
        assert!(cpp.contains(&format!("QG_{name}")), "QG_{name} is not in qwenguard.hpp");
    }
    for name in super::header::functions() {
        // Logs are for languages whose functions other threads cannot call.
        let logs = ["qg_log_open", "qg_log_wait", "qg_log_end", "qg_log_free"].contains(&name.as_str());
        let elsewhere = logs || ["qg_error_status", "qg_version_number"].contains(&name.as_str());
        assert!(elsewhere || cpp.contains(&name), "{name} is not in qwenguard.hpp");
    }
}
