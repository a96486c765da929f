"""Installs each package into an empty folder, by the commands of docs/packages.md, and cuts the sample answer there:

    tests.py [linux debian windows arm macos java gradle csharp go rust rust_page sums ...]

What is for other systems runs in emulators, or is looked at, where its natives are built."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tarball
from platforms import ORT_VERSION, PACKAGES, PLATFORMS, ROOT, VERSION, Platform, by_key

PLATFORM = by_key("linux-x64")
ARM, WINDOWS, MACOS = by_key("linux-arm64"), by_key("win-x64"), by_key("osx-arm64")
SAMPLES = ROOT / "packaging/samples"
WORK = ROOT / "target/test-packages"
CUT = "cut at byte 153"
REQUIRED = os.environ.get("QWENGUARD_REQUIRE_TOOLCHAINS") == "1"
TESTS: dict[str, Callable[[], None]] = {}


class Skipped(Exception):
    pass


def test(function: Callable[[], None]) -> Callable[[], None]:
    TESTS[function.__name__] = function
    return function


def need(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            raise Skipped(f"{program} is missing")


def need_natives(platform: Platform) -> None:
    if not (platform.natives / ".complete").is_file():
        raise Skipped(f"there are no packages for it: make natives-{platform.key}")


def blocks(heading: str, language: str) -> list[str]:
    """The code of a section of the page, up to its next heading."""
    page = (ROOT / "docs/packages.md").read_text()
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.S | re.M)
    code = re.findall(rf"^```{language}\n(.*?)^```", found[1] if found else "", re.S | re.M)
    if not code:
        raise SystemExit(f"docs/packages.md: no {language} below {heading}")
    return code


def empty(name: str, *samples: str) -> Path:
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for sample in samples:
        shutil.copy(SAMPLES / sample, folder)
    return folder


@contextmanager
def outside(*samples: str) -> Iterator[Path]:
    """An empty folder that is not below the checkout: there Cargo would make a project a member of its workspace, and give it the
    variables of its configuration."""
    with tempfile.TemporaryDirectory(prefix="qwenguard-") as name:
        folder = Path(name).resolve()
        for sample in samples:
            shutil.copy(SAMPLES / sample, folder)
        yield folder


def clean_environment() -> dict[str, str]:
    """Without what would help a program to find what its package lacks."""
    names = ("ORT_DYLIB_PATH", "LD_LIBRARY_PATH", "PKG_CONFIG_PATH", "CGO_LDFLAGS", "QWENGUARD_LIBRARY", "GOFLAGS")
    return {name: value for name, value in os.environ.items() if name not in names} | {"PACKAGES": str(PACKAGES)}


def shell(folder: Path, commands: str, **variables: str) -> str:
    """What commands write. They must all succeed."""
    done = subprocess.run(["sh", "-eu", "-c", commands], cwd=folder, env=clean_environment() | variables, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"failed in {folder}:\n{commands}\n{done.stdout}")
    return done.stdout


def cuts(said: str, times: int = 1) -> None:
    if said.count(CUT + "\n") != times:
        raise SystemExit(f"not {times} times {CUT!r}:\n{said}")


def one_runtime(said: str, expected: str) -> None:
    """A program that was asked wrote which ONNX Runtimes its process has mapped."""
    mapped = {line.removeprefix("mapped: ") for line in said.splitlines() if line.startswith("mapped: ")}
    if len(mapped) != 1 or expected not in next(iter(mapped)):
        raise SystemExit(f"not one ONNX Runtime, {expected}, but {sorted(mapped)}")


# --- Linux


@test
def linux() -> None:
    need("cc", "c++", "pkg-config", "cmake")
    folder = empty("tar with spaces", "cut.c", "cut.cpp", "CMakeLists.txt")
    commands = blocks("tar.gz", "sh")
    # The page's folder has no spaces; CMake's and the program's may have them.
    plain = empty("tar", "cut.c", "cut.cpp", "CMakeLists.txt")
    said = shell(plain, "\n".join(commands))
    cuts(said, 5)
    assert f"qwenguard {VERSION}" in said, said
    shutil.move(plain / f"qwenguard-{VERSION}-{PLATFORM.key}", folder)
    cuts(shell(folder, "set -- \"$PWD\"/qwenguard-*\n"
               'cmake -S . -B build "-DCMAKE_PREFIX_PATH=$1" && cmake --build build && build/cut-c && build/cut-cpp'), 2)
    moderates(folder, f"qwenguard-{VERSION}-{PLATFORM.key}/bin/qwenguard")
    loaded_runtime(folder, f"qwenguard-{VERSION}-{PLATFORM.key}")
    stripped(folder / f"qwenguard-{VERSION}-{PLATFORM.key}")
    manual(folder / f"qwenguard-{VERSION}-{PLATFORM.key}")


def moderates(folder: Path, *program: str | Path) -> None:
    """The program finds ONNX Runtime by itself."""
    words = shlex.join(map(str, [*program[:-1], f"./{program[-1]}"]))
    said = shell(folder, f'{words} moderate "{ROOT}/export/nano/demo.jsonl" || test $? -eq 3', QEMU_LD_PREFIX=ARM_LIBRARIES)
    assert "clear up to byte 153" in said, said


def loaded_runtime(folder: Path, prefix: str) -> None:
    """A program that has loaded ONNX Runtime gets no second copy."""
    shutil.copy(SAMPLES / "loaded.c", folder)
    shutil.copy(folder / prefix / "lib/libonnxruntime.so", folder / "libonnxruntime.so.1.28.0")
    said = shell(folder, f'cc loaded.c -o loaded -I"{prefix}/include" -L"{prefix}/lib" -lqwenguard -ldl "-Wl,-rpath,$PWD/{prefix}/lib"\n'
                 "./loaded ./libonnxruntime.so.1.28.0")
    one_runtime(said, "libonnxruntime.so.1.28.0")
    one_runtime(shell(folder, "./loaded"), f"{prefix}/lib/libonnxruntime.so")


def manual(prefix: Path) -> None:
    """The pages that the program's own page names are there."""
    pages = prefix / "share/man/man1"
    named = tarball.commands((pages / "qwenguard.1").read_bytes())
    assert {"moderate", "serve", "providers"} <= set(named), named
    assert {file.name for file in pages.iterdir()} == {"qwenguard.1", *(f"qwenguard-{command}.1" for command in named)}


def stripped(prefix: Path) -> None:
    """Debuggers find by build id what was stripped."""
    debug = WORK / "debug"
    shutil.rmtree(debug, ignore_errors=True)
    debug.mkdir()
    shell(debug, f'tar xzf "$PACKAGES"/qwenguard-{VERSION}-{PLATFORM.key}-debug.tar.gz')
    for file in (prefix / PLATFORM.library, prefix / PLATFORM.program):
        sections = subprocess.run(["readelf", "-SW", file], capture_output=True, text=True, check=True).stdout
        # .debug_gdb_scripts, 34 bytes that name rustc's printers, is loaded with a program, so that stripping leaves it.
        assert not re.search(r"\.debug_(?!gdb_scripts)|\.symtab", sections), f"{file} is not stripped"
        notes = subprocess.run(["readelf", "--notes", file], capture_output=True, text=True, check=True).stdout
        build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)[1]
        found = list(debug.glob(f"*/.build-id/{build_id[:2]}/{build_id[2:]}.debug"))
        assert len(found) == 1, f"{file}: no debug file for {build_id}"
        lines = subprocess.run(["readelf", "-SW", found[0]], capture_output=True, text=True, check=True).stdout
        assert ".debug_line" in lines, f"{found[0]} has no lines"


@test
def debian() -> None:
    need("apt-get", "cc", "c++", "pkg-config", "cmake", "unshare")
    if os.geteuid():
        raise Skipped("installing a package needs root")
    empty("deb", "cut.c", "cut.cpp", "CMakeLists.txt")
    commands = "\n".join(blocks("Debian", "sh"))
    # In a copy of the system that is thrown away: nothing is installed on this machine. The checkout is mounted into it, for it may
    # be below /tmp or on another disk than the system.
    script = f"""
mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay none -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
for folder in proc dev sys; do mount --rbind /$folder /mnt/root/$folder; done
mount -t tmpfs none /mnt/root/tmp
mkdir -p "/mnt/root{ROOT}" && mount --bind "{ROOT}" "/mnt/root{ROOT}"
exec chroot /mnt/root sh -eu -c 'cd "{WORK}/deb"; {commands}
qwenguard moderate "{ROOT}/export/nano/demo.jsonl" || test $? -eq 3
man -w qwenguard-serve
cmake -S . -B build >/dev/null && cmake --build build >/dev/null && build/cut-cpp && build/cut-static
dpkg --remove qwenguard
test ! -e /usr/bin/qwenguard'"""
    said = shell(WORK, "unshare --mount sh -eu -c \"$SCRIPT\"", SCRIPT=script, DEBIAN_FRONTEND="noninteractive")
    cuts(said, 3)
    assert f"qwenguard {VERSION}" in said and "clear up to byte 153" in said, said


# --- Other systems

WINE = ROOT / "tests/platforms/wine.sh"
QEMU = ROOT / "target/qemu/qemu-aarch64"
# Where Debian's cross compiler has the C library.
ARM_LIBRARIES = "/usr/aarch64-linux-gnu"
ARM_COMPILERS = "cc() { aarch64-linux-gnu-gcc \"$@\"; }; export CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++"


def on_arm(commands: str, *programs: str) -> str:
    """The commands for Linux, with a compiler for ARM, and what they start in qemu."""
    for program in programs:
        commands = re.sub(rf"^{re.escape(program)}(?= |$)", f"{shlex.quote(str(QEMU))} -cpu max {program}", commands, flags=re.M)
    commands = re.sub(r"^c\+\+ ", "$CXX ", commands, flags=re.M)
    return f"{ARM_COMPILERS}\n" + commands.replace(PLATFORM.key, ARM.key)


def qemu() -> None:
    """Fetches it, which Debian alone has in the version that is needed."""
    need_natives(ARM)
    need("apt-get", "dpkg-deb", "make")
    shell(ROOT, f"make {QEMU.relative_to(ROOT)}")


@test
def windows() -> None:
    """With compilers for Windows on Linux, and what they make in Wine."""
    need_natives(WINDOWS)
    need("x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-g++-posix", "cmake", "unzip")
    folder = empty("windows", "cut.c", "cut.cpp", "CMakeLists.txt")
    said = shell(folder, "\n".join(blocks("Windows", "sh")), CHECKOUT=str(ROOT))
    cuts(said, 3)
    assert f"qwenguard {VERSION}\n" in said, said
    moderates(folder, WINE, f"qwenguard-{VERSION}-{WINDOWS.key}/bin/qwenguard.exe")


@test
def arm() -> None:
    qemu()
    need("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++", "pkg-config", "cmake")
    folder = empty("arm", "cut.c", "cut.cpp", "CMakeLists.txt")
    program = f"qwenguard-{VERSION}-{ARM.key}/bin/qwenguard"
    commands = on_arm("\n".join(blocks("tar.gz", "sh")), "./cut", "./cut-cpp", "build/cut-c", "build/cut-cpp", "build/cut-static",
                      program.replace(ARM.key, PLATFORM.key))
    said = shell(folder, commands, QEMU_LD_PREFIX=ARM_LIBRARIES)
    cuts(said, 5)
    assert f"qwenguard {VERSION}\n" in said, said
    moderates(folder, QEMU, program)
    # Debian's own tool reads the package; apt would install it on ARM alone.
    shell(folder, f'dpkg-deb --extract "$PACKAGES"/qwenguard_{VERSION}_{ARM.deb}.deb deb')
    moderates(folder, QEMU, "deb/usr/bin/qwenguard")


@test
def macos() -> None:
    """Nothing of it runs here: names, exports and signatures are read in the files of the archive."""
    need_natives(MACOS)
    folder = empty("macos")
    name = f"qwenguard-{VERSION}-{MACOS.key}"
    shell(folder, f'tar xzf "$PACKAGES"/{name}.tar.gz')
    library, program = folder / name / MACOS.library, folder / name / MACOS.program
    shell(folder, shlex.join(map(str, [sys.executable, ROOT / "tests/platforms/macho.py", library, program, folder / name / "include/qwenguard.h"])))
    for link in MACOS.links:
        assert (library.parent / link).resolve() == library.resolve(), link
    assert (folder / name / MACOS.runtime).is_file()


@test
def go_windows() -> None:
    go_elsewhere(WINDOWS, "x86_64-w64-mingw32-gcc", str(WINE))


@test
def go_arm() -> None:
    qemu()
    go_elsewhere(ARM, "aarch64-linux-gnu-gcc", f"{QEMU} -cpu max")


def go_elsewhere(platform: Platform, compiler: str, runner: str) -> None:
    """Built here for another system, and run in an emulator."""
    need_natives(platform)
    need("go", compiler)
    folder = empty(f"go-{platform.go}", "cut.go")
    system, processor = platform.go.split("_")
    program = "cut.exe" if platform.windows else "cut"
    commands = "\n".join(blocks("Go", "sh"))
    for old, new in {"go build -o cut": f"CGO_ENABLED=1 CC={compiler} go build -o {program}", "./cut": f"{runner} ./{program}"}.items():
        assert old in commands, old
        commands = commands.replace(old, new)
    cuts(shell(folder, commands, GOOS=system, GOARCH=processor, QEMU_LD_PREFIX=ARM_LIBRARIES, **go_folders(folder)))


@test
def natives_of_all() -> None:
    """What jars and the NuGet package have for each system that natives are built for, to the byte."""
    there = [platform for platform in PLATFORMS if (platform.natives / ".complete").is_file()]
    with zipfile.ZipFile(PACKAGES / f"Qwenguard.{VERSION}.nupkg") as package:
        for platform in there:
            same(package, f"runtimes/{platform.key}/native/{platform.plain}", platform.library, platform)
    for platform in there:
        folder = f"io/github/libqwenguard/native/{platform.java}/"
        loaded = platform.plain if platform.windows else platform.links[0]
        for slim in ("", "-slim"):
            artifact = REPOSITORY / f"io/github/libqwenguard/qwenguard/{VERSION}/qwenguard-{VERSION}-{platform.java}{slim}.jar"
            with zipfile.ZipFile(artifact) as jar:
                same(jar, folder + loaded, platform.library, platform)
                same(jar, folder + platform.jni, f"jni/{platform.jni}", platform)
                assert (folder + Path(platform.runtime).name in jar.namelist()) == (not slim), artifact


def same(archive: zipfile.ZipFile, name: str, native: str, platform: Platform) -> None:
    assert archive.read(name) == (platform.natives / native).read_bytes(), f"{archive.filename}: {name}"


# --- Java

REPOSITORY = PACKAGES / "maven"
# The plugins that the page's project and the tests use, in versions that are known to work together.
PLUGINS = """  <build>
    <plugins>
      <plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
      <plugin><artifactId>maven-compiler-plugin</artifactId><version>3.14.1</version></plugin>
      <plugin><artifactId>maven-jar-plugin</artifactId><version>3.4.2</version></plugin>
      <plugin><artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version></plugin>
      <plugin>
        <artifactId>maven-shade-plugin</artifactId>
        <version>3.6.0</version>
        <executions>
          <execution><phase>package</phase><goals><goal>shade</goal></goals></execution>
        </executions>
        <configuration>
          <shadedArtifactAttached>true</shadedArtifactAttached>
          <createDependencyReducedPom>false</createDependencyReducedPom>
        </configuration>
      </plugin>
    </plugins>
  </build>
"""


def jdks() -> tuple[str, str]:
    """A JDK of 22 or newer, and an older one."""
    said = shell(ROOT, '. bindings/java/jdks.sh; printf "%s\\n%s\\n" "$new" "$old"').splitlines()
    if not all(said[:2]):
        raise Skipped("a JDK of 22 or newer and one of 17 to 21 are needed")
    return said[0], said[1]


def java_folder(name: str, *samples: str) -> Path:
    folder = empty(name)
    sources = folder / "src/main/java/cut"
    sources.mkdir(parents=True)
    for sample in samples:
        shutil.copy(SAMPLES / sample, sources)
    return folder


def maven_project(name: str, jdk: str, dependencies: str, *samples: str, plugins: str = PLUGINS) -> Path:
    """The page's project, whose program has run; `dependencies` replaces those of its pom.xml."""
    need("mvn")
    folder = java_folder(name, *samples)
    pom = blocks("Maven", "xml")[0]
    if dependencies:
        pom = re.sub(r"  <dependencies>.*</dependencies>\n", lambda _: dependencies, pom, flags=re.S)
    (folder / "pom.xml").write_text(pom.replace("</project>", plugins + "</project>"))
    # Of an earlier run's natives nothing may be left.
    shutil.rmtree(Path.home() / ".m2/repository/io/github/libqwenguard", ignore_errors=True)
    cuts(shell(folder, blocks("Maven", "sh")[0], **java_variables(folder, jdk)))
    return folder


def java_variables(folder: Path, jdk: str) -> dict[str, str]:
    """For the page's commands: this JDK, and a cache for natives that is the test's own."""
    options = f"-Dqwenguard.cache={folder / 'cache'}"
    return {"JAVA_HOME": jdk, "PATH": f"{jdk}/bin{os.pathsep}{os.environ['PATH']}", "JAVA_TOOL_OPTIONS": options}


def java_runs(folder: Path, java: str, provider: str, paths: str, main: str = "cut.Cut", options: str = "") -> str:
    native = "--enable-native-access=ALL-UNNAMED" if provider == "ffm" else ""
    return shell(folder, f'"{java}/bin/java" -Dqwenguard.provider={provider} -Dqwenguard.cache="$PWD/cache" {native} {options} '
                 f"{paths} {main}")


@test
def java() -> None:
    new, old = jdks()
    # With the plugins that Maven takes by itself, which may be old.
    maven_project("maven-plain", old, "", "Cut.java", plugins="")
    folder = maven_project("maven", new, "", "Cut.java")
    for java, provider in ((old, "jni"), (new, "jni"), (new, "ffm")):
        cuts(java_runs(folder, java, provider, "-cp 'target/classes:target/dependency/*'"))
        cuts(java_runs(folder, java, provider, "-cp target/cut-1-shaded.jar"))
    java_modules(folder, new, old)
    java_documents()


def java_modules(folder: Path, new: str, old: str) -> None:
    """On the module path, with a module of the program's own."""
    (folder / "src/main/java/module-info.java").write_text(
        "module cut {\n    requires io.github.libqwenguard;\n}\n")
    shell(folder, "mvn -B -q clean package dependency:copy-dependencies -DincludeScope=runtime", JAVA_HOME=new)
    for java, provider in ((old, "jni"), (new, "jni"), (new, "ffm")):
        options = "" if java == old else "--enable-native-access=io.github.libqwenguard"
        cuts(java_runs(folder, java, provider, "-p target/classes:target/dependency -m", "cut/cut.Cut", options))


def java_documents() -> None:
    """What Central wants beside the jar."""
    folder = REPOSITORY / f"io/github/libqwenguard/qwenguard/{VERSION}"
    with zipfile.ZipFile(folder / f"qwenguard-{VERSION}-sources.jar") as jar:
        assert "io/github/libqwenguard/Guard.java" in jar.namelist()
    with zipfile.ZipFile(folder / f"qwenguard-{VERSION}-javadoc.jar") as jar:
        assert "io/github/libqwenguard/Guard.html" in jar.namelist()
    for file in folder.glob("*.jar"):
        for digest in ("md5", "sha1", "sha256", "sha512"):
            assert file.with_name(f"{file.name}.{digest}").is_file(), file


@test
def java_with_official_runtime() -> None:
    new, old = jdks()
    slim = blocks("Maven, with the ONNX Runtime of its maker", "xml")[0]
    folder = maven_project("maven-slim", new, slim, "Cut.java", "Both.java")
    for java, provider in ((old, "jni"), (new, "ffm")):
        # As separate jars, and all in one.
        for path in ("'target/classes:target/dependency/*'", "target/cut-1-shaded.jar"):
            cuts(java_runs(folder, java, provider, f"-cp {path}"))
            for order in ("ours", "theirs"):
                said = java_runs(folder, java, provider, f"-cp {path}", f"cut.Both {order}")
                cuts(said)
                one_runtime(said, "libonnxruntime.so")
    # As modules: that of its maker is in the graph because the natives require it.
    next(folder.glob("src/main/java/**/Both.java")).unlink()
    java_modules(folder, new, old)


@test
def gradle() -> None:
    need("gradle")
    new, old = jdks()
    folder = java_folder("gradle", "Cut.java")
    (folder / "build.gradle").write_text(blocks("Gradle", "groovy")[0])
    # Without a daemon that outlives the test, and without a network.
    commands = blocks("Gradle", "sh")[0].replace("gradle ", "gradle --offline --no-daemon ")
    variables = {"GRADLE_USER_HOME": str(folder / "home"), **java_variables(folder, old)}
    cuts(shell(folder, commands, **variables))
    # All that it resolved, on both paths. This Gradle makes no module of the program.
    shell(folder, "gradle --offline --no-daemon -q installDist", **variables)
    jars = "build/install/gradle/lib"
    for java, provider in ((old, "jni"), (new, "jni"), (new, "ffm")):
        cuts(java_runs(folder, java, provider, f"-cp '{jars}/*'"))
        cuts(java_runs(folder, java, provider, f"-p {jars} --add-modules io.github.libqwenguard -m", "gradle/cut.Cut"))


@test
def java_class_path() -> None:
    for jdk in jdks():
        folder = java_folder("class-path", "Cut.java")
        cuts(shell(folder, blocks("Class path", "sh")[0], **java_variables(folder, jdk)))


# --- C#


@test
def csharp() -> None:
    """Mono runs what NuGet would put beside the program: see Qwenguard.targets."""
    need("mcs", "mono", "unzip")
    folder = empty("csharp", "Cut.cs", "Loaded.cs")
    with zipfile.ZipFile(PACKAGES / f"Qwenguard.{VERSION}.nupkg") as package:
        package.extractall(folder / "package")
    opc(folder / "package")
    shutil.rmtree(folder / "package")
    # All in the program's folder, as for .NET Framework and after publishing for a platform.
    cuts(shell(folder, "\n".join(blocks("Mono", "sh"))))
    csharp_with_loaded_runtime(folder)
    # As NuGet leaves it otherwise, with what the package Microsoft.ML.OnnxRuntime has in the same folder.
    native = folder / "runtimes" / PLATFORM.key / "native"
    native.mkdir(parents=True)
    for library in (PLATFORM.plain, Path(PLATFORM.runtime).name):
        shutil.move(folder / library, native)
    cuts(shell(folder, "mono Cut.exe"))


def csharp_with_loaded_runtime(folder: Path) -> None:
    """A program that has loaded ONNX Runtime gets no second copy, as in C."""
    other = f"libonnxruntime.so.{ORT_VERSION}"
    shutil.copy(folder / Path(PLATFORM.runtime).name, folder / other)
    shell(folder, "mcs -r:Qwenguard.dll -r:Facades/netstandard.dll Loaded.cs")
    one_runtime(shell(folder, f"mono Loaded.exe ./{other}"), other)
    one_runtime(shell(folder, "mono Loaded.exe"), "csharp/libonnxruntime.so")


def opc(folder: Path) -> None:
    """What NuGet reads a package by."""
    types = (folder / "[Content_Types].xml").read_text()
    for file in (path for path in folder.rglob("*") if path.is_file() and path.name != "[Content_Types].xml"):
        name = file.relative_to(folder).as_posix()
        _, dot, extension = file.name.rpartition(".")
        assert f'Extension="{extension}"' in types if dot else f'PartName="/{name}"' in types, name
    relations = (folder / "_rels/.rels").read_text()
    for target in re.findall(r'Target="/([^"]+)"', relations):
        assert (folder / target).is_file(), target
    nuspec = (folder / "Qwenguard.nuspec").read_text()
    assert f'<dependency id="Microsoft.ML.OnnxRuntime" version="{ORT_VERSION}" />' in nuspec, nuspec


# --- Go


def go_folders(folder: Path) -> dict[str, str]:
    # The index that Go keeps of a module goes by its version, and this version's files change.
    return {
        "GODEBUG": "goindex=0",
        "GOFLAGS": "-modcacherw", "GOMODCACHE": str(folder / "modules"), "XDG_CACHE_HOME": str(folder / "cache"), "GOTOOLCHAIN": "local",
        "GOCACHE": str(WORK / "go-build"),
    }


@test
def go() -> None:
    need("go", "cc")
    folder = empty("go", "cut.go")
    variables = go_folders(folder)
    cuts(shell(folder, "\n".join(blocks("Go", "sh")), **variables))
    # The program is one file: it runs where nothing else is.
    alone = empty("go-alone")
    shutil.copy(folder / "cut", alone)
    shutil.rmtree(folder / "modules")
    variables["XDG_CACHE_HOME"] = str(alone / "cache")
    cuts(shell(alone, "./cut && ./cut", **variables), 2)
    damaged = next((alone / "cache").rglob("libonnxruntime.so"))
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    cuts(shell(alone, "./cut", **variables))
    # Without a cache folder: in one of its own below the temporary folder.
    said = shell(alone, "mkdir temporary; unset XDG_CACHE_HOME HOME; TMPDIR=$PWD/temporary ./cut; ls temporary", **variables)
    cuts(said)
    assert f"qwenguard-{os.getuid()}" in said, said


@test
def go_with_pkg_config() -> None:
    need("go", "cc", "pkg-config")
    folder = empty("go-pkg-config", "cut.go")
    prefix = PACKAGES / f"prefix/qwenguard-{VERSION}-{PLATFORM.key}/lib"
    variables = {
        "GOFLAGS": "-modcacherw -tags=qwenguard_pkgconfig",
        "GOMODCACHE": str(folder / "modules"), "GOTOOLCHAIN": "local", "GOCACHE": str(WORK / "go-build"), "GODEBUG": "goindex=0",
        "PKG_CONFIG_PATH": f"{prefix}/pkgconfig", "CGO_LDFLAGS": f"-Wl,-rpath,{prefix}",
    }
    cuts(shell(folder, "\n".join(blocks("Go", "sh")), **variables))
    assert "libqwenguard.so" in shell(folder, "readelf -d cut"), "it is not linked with the shared library"


@test
def go_collector() -> None:
    """The module for Prometheus' client library alone is asked for: it brings the rest."""
    need("go", "cc")
    folder = empty("go-collector", "collector.go")
    said = shell(folder, blocks("Go, with a collector for Prometheus", "sh")[0], **go_folders(folder))
    assert "\nqwenguard_tokens_total\n" in said, said


# --- Rust


@test
def rust() -> None:
    """The crates as they are packed, with their own tests compiled, and a program that depends on the library."""
    folder = empty("rust")
    for name in ("qwenguard", "qwenguard-cli"):
        shell(folder, f'tar xzf "$PACKAGES"/{name}-{VERSION}.crate')
    library, program = folder / f"qwenguard-{VERSION}", folder / f"qwenguard-cli-{VERSION}"
    patch = f'\n[patch.crates-io]\nqwenguard = {{ path = "{library}" }}\n'
    for crate in (library, program):
        manifest = crate / "Cargo.toml"
        manifest.write_text(manifest.read_text() + "\n[workspace]\n" + (patch if crate == program else ""))
    # What is compiled for the repository serves here too.
    variables = {"CARGO_TARGET_DIR": str(ROOT / "target")}
    shell(library, "cargo check --tests --features nano", **variables)
    shell(program, "cargo check --tests", **variables)
    # By the page's commands, which unpack the crate anew.
    with outside("cut.rs") as folder:
        cuts(shell(folder, "\n".join(blocks("Rust", "sh")), CARGO_TARGET_DIR=str(WORK / "rust-target")))


def page_blocks(page: str, language: str) -> list[str]:
    """The code of a language on a page of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)


@test
def rust_page() -> None:
    """docs/rust.md, from a checkout, in a debug build."""
    place, commands, *_ = page_blocks("docs/rust.md", "sh")
    assert place.startswith("export CHECKOUT="), place
    program = next(code for code in page_blocks("docs/rust.md", "rust,no_run") if "fn main()" in code)
    with outside() as folder:
        shell(folder, commands, CHECKOUT=str(ROOT))
        (folder / "src/main.rs").write_text(program)
        said = shell(folder, "cargo run")
    assert "cut: Unsafe, answer.strict: 2 consecutive\n" in said, said


# --- Python


@test
def python() -> None:
    need("python3")
    if not list(PACKAGES.glob("python/*.whl")):
        raise Skipped("there is no wheel: make wheel")
    folder = empty("python", "cut.py")
    cuts(shell(folder, blocks("Python", "sh")[0]))


# --- What goes with them


@test
def sums() -> None:
    shell(PACKAGES, "sha256sum --quiet --check SHA256SUMS")
    listed = [PACKAGES / line.split("  ", 1)[1] for line in (PACKAGES / "SHA256SUMS").read_text().splitlines()]
    kinds = {archive.suffix for archive in listed if archive.suffix in READERS and has_notices(archive)}
    assert kinds == set(READERS), f"no natives in packages of the kinds {set(READERS) - kinds}"


def has_notices(archive: Path) -> bool:
    """Whether a package has natives. With them are the notices of what is compiled into them."""
    files = {Path(name).name for name in READERS[archive.suffix](archive)}
    wanted = [notices for native, notices in NOTICES.items() if any(re.search(native, file) for file in files)]
    lacking = set().union(*wanted) - files
    assert not lacking, f"{archive} lacks {', '.join(lacking)}"
    return bool(wanted)


def of_zip(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as package:
        return package.namelist()


def of_tar(archive: Path) -> list[str]:
    with tarfile.open(archive) as package:
        return package.getnames()


def of_deb(archive: Path) -> list[str]:
    """Members of ar have a head of 60 bytes, and even lengths. The last has the files."""
    content, start, length = archive.read_bytes(), 8, -60
    while not content.startswith(b"data.tar", start := start + 60 + length + length % 2):
        length = int(content[start + 48:start + 58])
    with tarfile.open(fileobj=io.BytesIO(content[start + 60:])) as package:
        return package.getnames()


READERS = {".gz": of_tar, ".deb": of_deb, ".zip": of_zip, ".jar": of_zip, ".nupkg": of_zip, ".whl": of_zip}
# Natives, and what has to be with them.
NOTICES = {
    r"(qwenguard|_native)[\w.]*\.(so|dll|dylib|a)(\.[\d.]+)?$": {"THIRD-PARTY-NOTICES.txt"},
    r"onnxruntime\.(so|dll|dylib)$": {"onnxruntime-LICENSE.txt", "onnxruntime-ThirdPartyNotices.txt"},
}


def main() -> None:
    wanted = sys.argv[1:] or list(TESTS)
    unknown = [name for name in wanted if name not in TESTS]
    if unknown:
        raise SystemExit(f"no test {', '.join(unknown)}: there are {', '.join(TESTS)}")
    passed = skipped = 0
    for name in wanted:
        try:
            TESTS[name]()
        except Skipped as reason:
            print(f"SKIPPED: {name}: {reason}", flush=True)
            skipped += 1
        except AssertionError as failure:
            raise SystemExit(f"{name}: {failure}") from failure
        else:
            print(f"passed: {name}", flush=True)
            passed += 1
    print(f"{passed} passed, 0 failed, {skipped} skipped")
    if skipped and REQUIRED:
        raise SystemExit("with QWENGUARD_REQUIRE_TOOLCHAINS=1 none may be skipped")


if __name__ == "__main__":
    main()
