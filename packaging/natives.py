"""Builds the natives of a platform into target/natives/KEY, a prefix that all its packages are made from:

    natives.py KEY

The shared library, the static one and the program are built by cargo-zigbuild, so that on Linux they need no newer glibc than the
table in platforms.py says; for Windows by `make dist`. They are stripped, with what debuggers need in lib/debug, but for macOS. ONNX Runtime comes
out of its wheel. The same commit makes the same bytes in any folder.
"""

import hashlib
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from archives import sha256, size
from platforms import INTERFACE, ORT_VERSION, ROOT, TOOLS, VERSION, Platform, by_key, epoch, run

PROFILE = "dist"
# Of the library for Linux on x86-64, without ONNX Runtime. Nearly half of it are the demonstration guards: docs/packages.md.
LARGEST = 14_000_000


def flags() -> tuple[list[str], list[str]]:
    """For rustc and for C: no path of this machine in what is built."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    paths = [(folder, "/cargo") for folder in sorted((home / "registry/src").glob("*"))] + [(ROOT, "/qwenguard")]
    rust = [f"--remap-path-prefix={path}={name}" for path, name in paths]
    return rust, [f"-ffile-prefix-map={path}={name}" for path, name in paths]


def encoded(platform: Platform, rust: list[str], c: list[str]) -> dict[str, str]:
    """Flags as variables, in which paths may have spaces."""
    quoted = shlex.join(c)
    variables = {"CARGO_ENCODED_RUSTFLAGS": "\x1f".join(rust), "CFLAGS_" + platform.rust.replace("-", "_"): quoted}
    return variables | ({"CC_SHELL_ESCAPED_FLAGS": "1"} if quoted != " ".join(c) else {})


def linking(platform: Platform) -> list[str]:
    if platform.macos:
        return ["-Clink-arg=-install_name", f"-Clink-arg=@rpath/libqwenguard.{INTERFACE}.dylib"]
    return [f"-Clink-arg=-Wl,-soname,libqwenguard.so.{INTERFACE}"]


def compile_all(platform: Platform, target_folder: Path) -> Path:
    """The folder with what cargo built."""
    # So that the folder of sources is there, whose name the flags have.
    run("cargo", "fetch", "--locked", "--target", platform.rust, cwd=ROOT)
    rust, c = flags()
    sdk = {}
    if platform.macos:
        # Nothing here takes what debuggers need out of the static library.
        sdk = {"SDKROOT": str(ROOT / "target/macos-sdk"), f"CARGO_PROFILE_{PROFILE.upper()}_DEBUG": "false"}
        run(TOOLS / "python", ROOT / "packaging/macos_sdk.py", sdk["SDKROOT"])
        # See macos_sdk.py.
        rust += ["-Clinker=rust-lld", "-Clinker-flavor=ld64.lld", "-Cstrip=symbols"]
    else:
        rust.append("-Clink-arg=-Wl,--build-id=sha1")
    environment = os.environ | encoded(platform, rust, c) | sdk | {
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
        "SOURCE_DATE_EPOCH": str(epoch()),
        "CARGO_TARGET_DIR": str(target_folder),
    }
    target = ["--locked", "--profile", PROFILE, "--target", platform.zig]
    zig = TOOLS / "cargo-zigbuild"
    run(zig, "rustc", *target, "--package", "qwenguard", "--lib", "--features", "capi", "--crate-type", "cdylib",
        "--crate-type", "staticlib", "--", *linking(platform), cwd=ROOT, env=environment)
    run(zig, "build", *target, "--package", "qwenguard-cli", cwd=ROOT, env=environment)
    return target_folder / platform.rust / PROFILE


def install(platform: Platform, built: Path, prefix: Path) -> None:
    program, library = prefix / platform.program, prefix / platform.library
    for folder in ("bin", "lib"):
        (prefix / folder).mkdir(parents=True)
    shutil.copy(built / program.name, program)
    shutil.copy(built / platform.plain, library)
    for link in platform.links:
        (library.parent / link).symlink_to(library.name)
    shutil.copy(built / "libqwenguard.a", prefix / "lib")


def install_dist(platform: Platform, prefix: Path) -> None:
    """What `make dist` makes for a target, with the program and the JNI library: mingw's, with import libraries for all."""
    dist = ROOT / f"target/dist/qwenguard-{VERSION}-{platform.java}"
    # Without the time of the link.
    rust, c = flags()
    rust.append("-Clink-arg=-Wl,--no-insert-timestamp")
    environment = os.environ | encoded(platform, rust, c) | {"SOURCE_DATE_EPOCH": str(epoch())}
    run("make", "dist", "program", f"target={platform.rust}", f"profile={PROFILE}", cwd=ROOT, env=environment)
    for part in ("bin", "lib"):
        shutil.copytree(dist / part, prefix / part, symlinks=True, ignore=shutil.ignore_patterns("pkgconfig"))
    program = prefix / platform.program
    shutil.copy(ROOT / "target" / platform.rust / PROFILE / program.name, program)
    (prefix / "notices").mkdir()
    for notice in (dist / "share/doc/qwenguard").glob("onnxruntime-*.txt"):
        shutil.copy(notice, prefix / "notices")
    with tempfile.TemporaryDirectory() as folder:
        run("sh", ROOT / "bindings/java/src/main/native/build.sh", java_home(), dist, folder, platform.rust)
        (prefix / "jni").mkdir()
        shutil.copy(Path(folder) / "io/github/libqwenguard/native" / platform.java / platform.jni, prefix / "jni")


def split_debug(platform: Platform, prefix: Path) -> None:
    """Strips what is installed, and keeps in lib/debug what was stripped."""
    for file in (prefix / platform.program, prefix / platform.library):
        if not platform.windows:
            set_build_id(platform, file)
        debug = prefix / "lib/debug" / debug_name(platform, file)
        debug.parent.mkdir(parents=True, exist_ok=True)
        run(platform.objcopy, "--only-keep-debug", *([] if platform.windows else ["--compress-debug-sections=zlib"]), file, debug)
        debug.chmod(0o644)
        run(platform.objcopy, "--strip-all", file)
        if platform.windows:
            run(platform.objcopy, f"--add-gnu-debuglink={debug}", file)
    archive = prefix / "lib/libqwenguard.a"
    if platform.windows:
        # Objects without sections, which objcopy refuses.
        ar = platform.objcopy.replace("objcopy", "ar")
        if empty := [member for member in quiet(ar, "t", archive).split() if member.endswith(".dwo")]:
            quiet(ar, "dD", archive, *empty)
    quiet(platform.objcopy, "--strip-debug", "--enable-deterministic-archives", archive)


def quiet(*command: object) -> str:
    """The tools of binutils take bitcode in archives for faults of a plugin of theirs, which only says so."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"failed: {command[0]}\n{done.stderr}")
    return done.stdout


def set_build_id(platform: Platform, file: Path) -> None:
    """The linker's covers what debuggers need, in which zig's own sources have paths of this machine. Ours is that of the code alone."""
    section = ".note.gnu.build-id"
    with tempfile.TemporaryDirectory() as folder:
        code, note = Path(folder, "code"), Path(folder, "note")
        quiet(platform.objcopy, "--strip-all", "--remove-section", section, file, code)
        identity = hashlib.sha1(code.read_bytes()).digest()
        # As the linker writes it: the sizes of name and identity, the type, both.
        note.write_bytes(struct.pack("<III4s", 4, len(identity), 3, b"GNU") + identity)
        quiet(platform.objcopy, "--update-section", f"{section}={note}", file)


def debug_name(platform: Platform, file: Path) -> str:
    """Where debuggers look: on Linux by build id, on Windows by the name that the file has."""
    if platform.windows:
        return f"{file.name}.debug"
    notes = subprocess.run(["readelf", "--notes", file], capture_output=True, text=True, check=True).stdout
    build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)
    if not build_id:
        raise SystemExit(f"{file} has no build id, by which debuggers would find its debug file")
    return f".build-id/{build_id[1][:2]}/{build_id[1][2:]}.debug"


def add_runtime(platform: Platform, prefix: Path) -> None:
    """ONNX Runtime out of its wheel, with its notices."""
    (prefix / "notices").mkdir()
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.12",
            "--platform", platform.wheel, "-d", folder, f"onnxruntime=={ORT_VERSION}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            stem = Path(platform.runtime).stem
            name = next(name for name in wheel.namelist() if re.fullmatch(rf"onnxruntime/capi/{stem}\.[\w.]+", name))
            (prefix / platform.runtime).write_bytes(wheel.read(name))
            for notice in ("LICENSE", "ThirdPartyNotices.txt"):
                text = wheel.read(f"onnxruntime/{notice}")
                (prefix / f"notices/onnxruntime-{notice.removesuffix('.txt')}.txt").write_bytes(text)


def java_home() -> Path:
    javac = shutil.which("javac")
    home = Path(os.environ.get("JAVA_HOME") or (javac and Path(javac).resolve().parent.parent) or "/none")
    if not (home / "include/jni.h").is_file():
        raise SystemExit("a JDK with include/jni.h is missing: set JAVA_HOME to one")
    return home


def add_jni(platform: Platform, prefix: Path) -> None:
    """The library that Java's JNI provider loads, with the headers of a JDK for any system of Unix."""
    home = java_home()
    sources = ROOT / "bindings/java/src/main/native"
    (prefix / "jni").mkdir()
    output = prefix / "jni" / platform.jni
    target = "aarch64-macos" if platform.macos else platform.zig.replace("-unknown", "")
    here = "@loader_path" if platform.macos else "$ORIGIN"
    run(TOOLS / "python", "-m", "ziglang", "cc", "-target", target, "-std=c11", "-O2", "-s", "-fPIC", "-shared", "-Wall",
        "-Wextra", "-Werror", "-Wno-unused-parameter", "-I", home / "include", "-I", home / "include/linux", "-I",
        ROOT / "include", "functions.c", "memory.c", "-o", output, "-L", prefix / "lib", "-lqwenguard",
        f"-Wl,-rpath,{here}", cwd=sources)


def newest_glibc(file: Path) -> tuple[int, ...]:
    said = subprocess.run(["objdump", "-T", file], capture_output=True, text=True, check=True).stdout
    versions = re.findall(r"GLIBC_(\d+(?:\.\d+)+)", said)
    return max((tuple(map(int, version.split("."))) for version in versions), default=(0,))


def check_glibc(platform: Platform, prefix: Path) -> None:
    floor = tuple(map(int, platform.glibc.split(".")))
    for file in (platform.program, platform.library, platform.runtime, f"jni/{platform.jni}"):
        newest = newest_glibc(prefix / file)
        print(f"{file}: needs glibc {'.'.join(map(str, newest))}, {size(prefix / file)}")
        if newest > floor:
            raise SystemExit(f"{file} needs a newer glibc than {platform.glibc}")


def main() -> None:
    platform = by_key(sys.argv[1])
    target_folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    prefix = platform.natives
    built = compile_all(platform, target_folder) if platform.zig else None
    shutil.rmtree(prefix, ignore_errors=True)
    if built:
        install(platform, built, prefix)
        add_runtime(platform, prefix)
        add_jni(platform, prefix)
    else:
        install_dist(platform, prefix)
    if not platform.macos:
        split_debug(platform, prefix)
    if platform.glibc:
        check_glibc(platform, prefix)
    library = prefix / platform.library
    if platform.key == "linux-x64" and library.stat().st_size > LARGEST:
        raise SystemExit(f"{library} has {size(library)}, more than {LARGEST / 1e6:.0f} MB")
    (prefix / ".complete").write_text(f"{VERSION} {sha256(library)}\n")


if __name__ == "__main__":
    main()
