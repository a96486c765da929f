//! The folder that `make dist` gives, moved to another place and used from there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{
    native::{SYSTEM_LIBRARIES, first_program, have, make, root, run, scratch},
    target,
};

fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let (made, moved) = (scratch("made"), scratch("dist").join("moved to a place with spaces"));
        let dist = format!("dist={}", made.join("qwenguard").display());
        match target::cross() {
            Some(target) => make(&["dist", "profile=dev", &dist, &format!("target={target}")]),
            None => make(&["dist", "profile=dev", &dist]),
        }
        let _ = fs::remove_dir_all(&moved);
        fs::rename(made.join("qwenguard"), &moved).unwrap();
        moved
    })
}

/// A program of the folder, which finds ONNX Runtime there.
fn alone(program: &Path) -> String {
    run(Command::new(program).env_remove("ORT_DYLIB_PATH").env_remove("LD_LIBRARY_PATH").current_dir("/"))
}

/// The folder with the shared libraries of a prefix.
fn libraries(folder: &Path) -> PathBuf {
    folder.join(if target::is_windows() { "bin" } else { "lib" })
}

/// What pkg-config says of the library in a folder.
fn pkg_config(folder: &Path, flags: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    let said = run(command.env("PKG_CONFIG_LIBDIR", folder.join("lib/pkgconfig")).args(flags).arg("qwenguard"));
    // The folder has spaces, which pkg-config escapes.
    let said = said.trim().replace("\\ ", "\u{1}");
    said.split(' ').map(|flag| flag.replace('\u{1}', " ")).filter(|flag| !flag.is_empty()).collect()
}

fn program_with_pkg_config(folder: &Path, name: &str) -> PathBuf {
    let program = scratch("bin").join(name);
    let mut command = Command::new(target::tool("cc"));
    command.args(["-std=c11", "-D_GNU_SOURCE"]).arg(root().join("tests/c/conversation.c"));
    command.args(pkg_config(folder, &["--cflags", "--libs"]));
    if !target::is_windows() {
        command.arg(format!("-Wl,-rpath,{}", folder.join("lib").display()));
    }
    run(command.arg("-o").arg(target::linked(&program)));
    target::runnable(&program, &libraries(folder));
    program
}

#[test]
fn a_program_with_pkg_config() {
    if have("cc") && have("pkg-config") {
        assert_eq!(pkg_config(prefix(), &["--modversion"]), [env!("CARGO_PKG_VERSION")]);
        alone(&program_with_pkg_config(prefix(), "pkg-config"));
        let private = pkg_config(prefix(), &["--static", "--libs-only-l"]);
        assert_eq!(private[1..].join(" "), target::system_libraries());
    }
}

/// What cargo-c installs has no ONNX Runtime beside it: the program finds that of the tests.
#[test]
fn a_program_with_cargo_c() {
    if !(have("cc") && have("pkg-config") && have("cargo-cinstall")) {
        return;
    }
    let folder = scratch("cinstall").join("prefix");
    let _ = fs::remove_dir_all(&folder);
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(["cinstall", "--locked", "--profile", "dev", "--libdir", "lib", "--prefix"]);
    run(command.arg(&folder));
    assert_eq!(pkg_config(&folder, &["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    for header in ["qwenguard.h", "qwenguard.hpp"] {
        assert_eq!(
            fs::read(folder.join("include").join(header)).unwrap(),
            fs::read(root().join("include").join(header)).unwrap()
        );
    }
    run(&mut Command::new(program_with_pkg_config(&folder, "cargo-c")));
}

#[test]
fn a_program_with_cmake() {
    if !(have("cc") && have("c++") && have("cmake")) {
        return;
    }
    let folder = scratch("cmake");
    fs::remove_dir_all(&folder).unwrap();
    let mut command = Command::new("cmake");
    command.arg("-S").arg(root().join("tests/c/cmake")).arg("-B").arg(&folder);
    if let Some(target) = target::cross() {
        let (system, processor) = if target::is_windows() { ("Windows", "AMD64") } else { ("Linux", "aarch64") };
        assert!(target.contains(&system.to_lowercase()));
        command.arg(format!("-DCMAKE_SYSTEM_NAME={system}")).arg(format!("-DCMAKE_SYSTEM_PROCESSOR={processor}"));
        command.arg(format!("-DCMAKE_C_COMPILER={}", target::tool("cc")));
        command.arg(format!("-DCMAKE_CXX_COMPILER={}", target::tool("c++")));
    }
    run(command.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display())));
    run(Command::new("cmake").arg("--build").arg(&folder));
    for name in ["consumer-qwenguard", "consumer-cpp", "consumer-static"] {
        if target::cross().is_some() && !target::is_windows() {
            fs::rename(folder.join(name), target::linked(&folder.join(name))).unwrap();
        }
        target::runnable(&folder.join(name), &libraries(prefix()));
    }
    alone(&folder.join("consumer-qwenguard"));
    assert!(alone(&folder.join("consumer-cpp")).contains("turns: cut at byte 153"));
    // It looks for ONNX Runtime beside itself.
    let name = if target::is_windows() { "onnxruntime.dll" } else { "libonnxruntime.so" };
    fs::copy(libraries(prefix()).join(name), folder.join(name)).unwrap();
    alone(&folder.join("consumer-static"));
    let installed = folder.join("installed");
    run(Command::new("cmake").arg("--install").arg(&folder).arg("--prefix").arg(&installed));
    installed_programs(&installed);
}

/// What the project installs takes its libraries along: each program finds them by its rpath, or on the `PATH` of Windows.
fn installed_programs(folder: &Path) {
    let windows = ["qwenguard.dll", "onnxruntime.dll"];
    let names = if target::is_windows() { windows } else { ["libqwenguard.so.0.1", "libonnxruntime.so"] };
    let [c, cpp] = [("consumer-qwenguard", "lib"), ("consumer-cpp", "files")].map(|(program, place)| {
        for name in names {
            assert!(folder.join(place).join(name).is_file(), "{place}/{name}");
        }
        let program = folder.join("bin").join(program);
        target::runnable(&program, &folder.join(place));
        program
    });
    if target::cross().is_none() {
        let needs = run(Command::new("ldd").arg(&cpp));
        assert!(needs.contains("installed/bin/../files/libqwenguard.so.0.1"), "{needs}");
    }
    alone(&c);
    assert!(alone(&cpp).contains("turns: cut at byte 153"));
}

/// The code of a language on a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let begin = format!("```{language}\n");
    let code = text.split(&begin).skip(1).map(|block| block.split_once("```").unwrap().0);
    code.map(str::to_owned).collect()
}

/// What the pages say to do, from an empty folder with the program that stands first on the page.
#[test]
fn the_commands_of_the_pages() {
    for (page, language, tool) in [("bindings/c/README.md", "c", "cc"), ("bindings/cpp/README.md", "cpp", "c++")] {
        if !(have(tool) && have("pkg-config") && have("cmake")) {
            continue;
        }
        let folder = scratch("pages").join(language);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(first_program(page, language), folder.join(format!("server.{language}"))).unwrap();
        fs::write(folder.join("CMakeLists.txt"), &blocks(page, "cmake")[0]).unwrap();
        // The folder of the page has no spaces.
        let dist = folder.with_extension("dist");
        let _ = fs::remove_file(&dist);
        std::os::unix::fs::symlink(prefix(), &dist).unwrap();
        let commands = blocks(page, "sh");
        let [place, commands @ ..] = &commands[..4] else { panic!("the page begins otherwise") };
        assert!(place.starts_with("export DIST="), "{place}");
        let [_, _, with_static] = commands else { panic!("the page has other commands") };
        assert!(with_static.lines().next().unwrap().ends_with(SYSTEM_LIBRARIES), "{with_static}");
        for commands in commands {
            let mut shell = Command::new("sh");
            shell.args(["-euc", commands]).current_dir(&folder).env("DIST", &dist);
            let said = run(shell.env_remove("ORT_DYLIB_PATH").env_remove("LD_LIBRARY_PATH"));
            assert!(said.contains("cut: Unsafe"), "{said}");
        }
        // The last of them made a program with the static library.
        assert!(!run(Command::new("ldd").arg(folder.join("server"))).contains("qwenguard"));
    }
}

/// `lib/qwenguard.lib` is for Microsoft's linker. LLVM's, which takes the same commands and files, comes with Rust.
#[test]
fn a_program_with_the_other_import_library() {
    if !target::is_windows() {
        return;
    }
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]));
    let linker = Path::new(sysroot.trim()).join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    let (folder, program) = (scratch("lld"), scratch("bin").join("lld"));
    let (source, object) = (folder.join("main.c"), folder.join("main.obj"));
    let code = "#include <qwenguard.h>\nint start(void) { return qg_abi_version() == QG_ABI_VERSION ? 0 : 1; }\n";
    fs::write(&source, code).unwrap();
    let mut command = Command::new(target::tool("cc"));
    run(command.arg("-c").arg(&source).arg("-I").arg(prefix().join("include")).arg("-o").arg(&object));
    let mut command = Command::new(linker);
    command.args(["-flavor", "link", "/entry:start", "/subsystem:console", "/nodefaultlib"]).arg(&object);
    command.arg(prefix().join("lib/qwenguard.lib"));
    run(command.arg(format!("/out:{}", target::linked(&program).display())));
    target::runnable(&program, &libraries(prefix()));
    run(&mut Command::new(program));
}

#[test]
fn versions_are_those_of_the_package() {
    let version = env!("CARGO_PKG_VERSION");
    let packaging = |file: &str| fs::read_to_string(root().join("packaging").join(file)).unwrap();
    assert!(packaging("qwenguard-config-version.cmake").contains(&format!("PACKAGE_VERSION \"{version}\"")));
    assert!(packaging("qwenguard.pc").contains(&format!("Version: {version}\n")));
    let (minor, _) = version.rsplit_once('.').unwrap();
    assert!(packaging("qwenguard-config.cmake").contains(&format!("libqwenguard.so.{minor}\"")));
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    assert!(makefile.contains(&format!("-soname,libqwenguard.so.{minor}\n")));
}
