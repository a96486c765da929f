//! Programs in C and C++ that use the library, compiled and run. What a machine lacks is left out, aloud; with
//! QWENGUARD_REQUIRE_TOOLCHAINS=1 it is a failure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{header::functions, target};
pub(crate) use crate::tools::have;

pub(crate) const C: [&str; 5] = ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror"];
const CPP: [&str; 7] = ["-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-pedantic", "-Werror"];
const C_TESTS: [&str; 13] = [
    "conversation",
    "arguments",
    "lifetime",
    "expiry",
    "threads",
    "many",
    "vectors",
    "annotate",
    "annotations",
    "odd_inputs",
    "wake",
    "log",
    "metrics",
];
/// What the static library wants from the system, on Linux with glibc. It stands in the pkg-config file too.
pub(crate) const SYSTEM_LIBRARIES: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what these tests make.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ffi").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a command that must succeed; gives what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    let said = text(&output.stdout);
    if target::is_windows() { said.replace("\r\n", "\n") } else { said }
}

pub(crate) fn make(arguments: &[&str]) {
    run(Command::new("make").current_dir(root()).env_remove("MAKEFLAGS").args(arguments));
}

/// The folder with libqwenguard.so and libqwenguard.a, built from this source.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = scratch("lib");
        let mut built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debug");
        if let Some(target) = target::cross() {
            make(&["lib", "profile=dev", &format!("target={target}")]);
            built = built.with_file_name(target).join("debug");
        } else {
            make(&["lib", "profile=dev"]);
        }
        if target::is_windows() {
            return built;
        }
        for (name, file) in [
            ("libqwenguard.so", "libqwenguard.so"),
            ("libqwenguard.so.0.1", "libqwenguard.so"),
            ("libqwenguard.a", "libqwenguard.a"),
        ] {
            let link = folder.join(name);
            let _ = fs::remove_file(&link);
            fs::hard_link(built.join(file), link).unwrap();
        }
        folder
    })
}

/// How to make a program.
pub(crate) struct Build<'a> {
    pub(crate) source: PathBuf,
    pub(crate) name: &'a str,
    pub(crate) compiler: &'a str,
    pub(crate) flags: &'a [&'a str],
    pub(crate) shared: bool,
}

impl Build<'_> {
    pub(crate) fn program(&self) -> PathBuf {
        let library = library();
        let program = scratch("bin").join(self.name);
        let mut command = Command::new(target::tool(self.compiler));
        command.args(self.flags).args(["-g", "-D_GNU_SOURCE", "-I"]).arg(root().join("include")).arg(&self.source);
        if self.shared {
            command.args(["-x", "none", "-L"]).arg(library).arg("-lqwenguard");
            command.arg(format!("-Wl,-rpath,{}", library.display()));
        } else {
            command.args(["-x", "none"]).arg(library.join("libqwenguard.a"));
            command.args(target::system_libraries().split(' '));
        }
        run(command.args(["-lpthread", "-o"]).arg(target::linked(&program)));
        target::runnable(&program, library);
        program
    }
}

/// What every example says of the conversations in export/nano/demo.jsonl.
pub(crate) fn moderates_the_samples(said: &str) {
    for line in [
        "bad-prompt: prompt refused, prompt.strict\n",
        "turns: cut at byte 153 of 168, answer.strict: 2 consecutive: Unsafe\n",
        "fine: complete, 233 bytes\n",
    ] {
        assert!(said.contains(line), "{said}");
    }
}

/// The program that stands first on the page of a language, as a file.
pub(crate) fn first_program(page: &str, language: &str) -> PathBuf {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let code = page.split_once(&format!("```{language}\n")).unwrap().1.split_once("```").unwrap().0;
    let source = scratch("src").join(format!("page.{language}"));
    fs::write(&source, code).unwrap();
    source
}

fn c_test(test: &str, kind: &str, compiler: &str, flags: &[&str]) -> PathBuf {
    let source = root().join(format!("tests/c/{test}.c"));
    Build { source, name: &format!("{test}-{kind}"), compiler, flags, shared: true }.program()
}

/// The arguments are for `vectors` and `annotations`.
fn c_program(program: &Path) -> Command {
    let mut command = Command::new(program);
    let vectors = root().join("tests/vectors");
    command.arg(vectors.join("vectors.json")).arg(vectors.join("annotations.json")).arg(root());
    command.arg(vectors.join("opinions.json")).arg(vectors.join("built_in_opinions.json"));
    command
}

#[test]
fn c_programs() {
    if have("cc") {
        for test in C_TESTS {
            run(&mut c_program(&c_test(test, "c", "cc", &C)));
        }
    }
}

/// On the provider that QWENGUARD_TEST_PROVIDER names.
#[test]
#[ignore = "wants a provider: make test-webgpu"]
fn c_vectors_on_another_provider() {
    if have("cc") {
        run(&mut c_program(&c_test("vectors", "c", "cc", &C)));
    }
}

#[test]
fn c_programs_as_cpp() {
    if have("c++") {
        for test in C_TESTS {
            run(&mut c_program(&c_test(test, "cpp", "c++", &CPP)));
        }
    }
}

#[test]
fn c_programs_under_sanitizers() {
    if have("cc") {
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let flags: Vec<&str> = C.iter().chain(&sanitizers).copied().collect();
        for test in C_TESTS {
            let program = c_test(test, "asan", "cc", &flags);
            assert!(run(Command::new("nm").arg(&program)).contains("__asan_init"), "{test} has no sanitizer");
            run(c_program(&program).env("ASAN_OPTIONS", "detect_leaks=1"));
        }
    }
}

/// "Possibly lost" is left out: the tables of Rust's hash maps are known by pointers into their middle.
#[test]
fn c_programs_under_valgrind() {
    if have("cc") && have("valgrind") {
        for test in ["lifetime", "conversation", "many", "annotate", "metrics"] {
            let program = c_test(test, "valgrind", "cc", &C);
            let mut command = Command::new("valgrind");
            command.args(["-q", "--error-exitcode=9", "--leak-check=full"]);
            command.args(["--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]);
            command.arg(format!("--suppressions={}", root().join("tests/c/valgrind.supp").display()));
            run(command.arg(program));
        }
    }
}

#[test]
fn a_c_program_with_the_static_library() {
    if have("cc") {
        let source = root().join("tests/c/conversation.c");
        let build = Build { source, name: "conversation-static", compiler: "cc", flags: &C, shared: false };
        let program = build.program();
        if target::cross().is_none() {
            assert!(!run(Command::new("ldd").arg(&program)).contains("qwenguard"));
        }
        run(&mut Command::new(program));
    }
}

#[test]
fn the_library_is_opened_and_closed_in_a_loop() {
    if have("cc") {
        let program = scratch("bin").join("unload");
        let mut command = Command::new(target::tool("cc"));
        command.args(C).args(["-D_GNU_SOURCE", "-I"]).arg(root().join("include")).arg(root().join("tests/c/unload.c"));
        command.args((!target::is_windows()).then_some("-ldl")).arg("-o");
        run(command.arg(target::linked(&program)));
        target::runnable(&program, library());
        let name = if target::is_windows() { "qwenguard.dll" } else { "libqwenguard.so" };
        run(Command::new(program).arg(library().join(name)));
    }
}

/// The program at the top of the header works as it stands there.
#[test]
fn the_example_in_the_header() {
    if have("cc") {
        let header = fs::read_to_string(root().join("include/qwenguard.h")).unwrap();
        let page = header.split_once("*/").unwrap().0;
        let code: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(" *     ")).collect();
        let source = scratch("src").join("header.c");
        fs::write(&source, code.join("\n") + "\n").unwrap();
        let program = Build { source, name: "header", compiler: "cc", flags: &C, shared: true }.program();
        assert_eq!(run(&mut Command::new(program)), "Wipe the counters.\n");
    }
}

#[test]
fn the_page() {
    if have("cc") {
        let source = first_program("bindings/c/README.md", "c");
        let program = Build { source, name: "page-c", compiler: "cc", flags: &C, shared: true }.program();
        let said = run(&mut Command::new(program));
        assert!(said.starts_with("may be shown: ") && said.ends_with("cut: Unsafe\n"), "{said}");
    }
}

/// The program that stands first on a page, with another body: a function that is shown there, and `main`.
pub(crate) fn page_with(page: &str, language: &str, function: &str, main: &str) -> PathBuf {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let begin = format!("```{language}\n");
    let blocks: Vec<&str> = text.split(&begin).skip(1).map(|block| block.split_once("```").unwrap().0).collect();
    let includes: Vec<&str> = blocks[0].lines().filter(|line| line.starts_with("#include")).collect();
    let source = scratch("src").join(format!("page-{function}.{language}"));
    let function = blocks[1..].iter().find(|block| block.contains(&format!("{function}("))).unwrap();
    fs::write(&source, format!("{}\n{function}\n{main}\n", includes.join("\n"))).unwrap();
    source
}

#[test]
fn the_page_annotates() {
    if have("cc") {
        let main = "int main(void) { qg_guard *guard = NULL; int failed = qg_guard_open_nano_gen(NULL, &guard, NULL) != QG_OK \
                    || annotate(guard); qg_guard_free(guard); return failed; }";
        let source = page_with("bindings/c/README.md", "c", "annotate", main);
        let program = Build { source, name: "page-annotates-c", compiler: "cc", flags: &C, shared: true }.program();
        assert_eq!(run(&mut Command::new(program)), "Unsafe, stop\ncategory: Violent\n");
    }
}

#[test]
fn the_page_opens_a_bundle() {
    if have("cc") {
        let main = "int main(int count, char **words) { qg_guard *guard = open_bundle(words[count - 1]); int failed = !guard; \
                    qg_guard_free(guard); return failed; }";
        let source = page_with("bindings/c/README.md", "c", "open_bundle", main);
        let program = Build { source, name: "page-opens-c", compiler: "cc", flags: &C, shared: true }.program();
        run(Command::new(&program).arg(root().join("export/nano/bundle")));
        let refused = Command::new(&program).arg("/nowhere").output().unwrap();
        assert!(
            !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("/nowhere"),
            "{refused:?}"
        );
    }
}

#[test]
fn the_example_moderates_the_samples() {
    if have("cc") {
        let source = root().join("bindings/c/examples/event_loop.c");
        let flags = [&C, target::sanitizers(&["-fsanitize=address,undefined"])].concat();
        let program = Build { source, name: "event_loop", compiler: "cc", flags: &flags, shared: true }.program();
        moderates_the_samples(&run(&mut Command::new(program)));
    }
}

#[test]
fn the_shared_library_exports_the_functions_of_the_header_and_nothing_else() {
    if target::is_windows() {
        return the_dll_exports_the_functions_of_the_header_and_nothing_else();
    }
    if have("nm") && have("readelf") {
        let library = library().join("libqwenguard.so");
        let symbols = run(Command::new(target::tool("nm")).args(["-D", "--defined-only"]).arg(&library));
        let exported: Vec<&str> = symbols.lines().filter_map(|line| line.split(' ').nth(2)).collect();
        assert_eq!(exported, functions().iter().map(String::as_str).collect::<Vec<_>>());
        let dynamic = run(Command::new(target::tool("readelf")).arg("-d").arg(&library));
        assert!(dynamic.contains("soname: [libqwenguard.so.0.1]"), "{dynamic}");
        assert!(!dynamic.contains("onnxruntime"), "ONNX Runtime is found at run time, not linked");
    }
}

/// Nor does a DLL need others than those of every Windows.
fn the_dll_exports_the_functions_of_the_header_and_nothing_else() {
    let tables = run(Command::new(target::tool("objdump")).arg("-p").arg(library().join("qwenguard.dll")));
    let (_, exports) = tables.split_once("[Ordinal/Name Pointer] Table").unwrap();
    let rows = exports.lines().skip(1).take_while(|line| line.trim_start().starts_with('['));
    let exported: Vec<&str> = rows.filter_map(|row| row.split_whitespace().last()).collect();
    assert_eq!(exported, functions().iter().map(String::as_str).collect::<Vec<_>>());
    let system = [
        "advapi32",
        "bcrypt",
        "bcryptprimitives",
        "dbghelp",
        "kernel32",
        "msvcrt",
        "ntdll",
        "ole32",
        "shell32",
        "userenv",
        "ws2_32",
    ];
    for name in tables.lines().filter_map(|line| line.trim().strip_prefix("DLL Name: ")) {
        let name = name.to_ascii_lowercase();
        let stem = name.strip_suffix(".dll").unwrap_or(&name);
        assert!(system.contains(&stem) || stem.starts_with("api-ms-win-"), "{name} is not part of every Windows");
    }
}

/// Sizes and offsets as a C compiler sees them are those that Rust sees: `layout` in src/ffi compares with the same
/// file.
#[test]
fn c_and_rust_agree_on_layouts() {
    if have("cc") {
        let expected = fs::read_to_string(root().join("tests/c/layout.txt")).unwrap();
        let mut code = "#include <qwenguard.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
        for line in expected.lines() {
            let (what, _) = line.rsplit_once(' ').unwrap();
            let value = match what.split_once('.') {
                None => format!("sizeof({what})"),
                Some((name, field)) => format!("offsetof({name}, {field})"),
            };
            code += &format!("printf(\"{what} %zu\\n\", {value});\n");
        }
        let source = scratch("src").join("layout.c");
        fs::write(&source, code + "return 0;\n}\n").unwrap();
        let program = Build { source, name: "layout", compiler: "cc", flags: &C, shared: true }.program();
        assert_eq!(run(&mut Command::new(program)), expected);
    }
}
