"""The platforms that packages are made for, and what every ecosystem calls them. All scripts of this folder read this table."""

import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
# What changes with the binary interface: before version 1 that is the minor version.
INTERFACE = ".".join(VERSION.split(".")[:2])
NATIVES = ROOT / "target/natives"
PACKAGES = ROOT / "target/packages"
TOOLS = ROOT / "target/tools/bin"
# ONNX Runtime: see the Makefile and docs/runtime.md.
ORT_VERSION = next(
    line.split()[-1] for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("ORT_VERSION :=")
)


@dataclass(frozen=True)
class Platform:
    key: str  # as NuGet names it; the folder in target/natives and the end of archives' names
    rust: str  # the target of rustc
    zig: str  # the target of cargo-zigbuild, with the oldest glibc
    wheel: str  # the platform of ONNX Runtime's wheel
    java: str  # the classifier of Maven's artifact and the folder in the jar
    official: str  # the folder in the official jar of ONNX Runtime
    go: str  # GOOS_GOARCH
    deb: str = ""  # the architecture of Debian, and its folder of libraries
    triplet: str = ""
    glibc: str = ""  # the newest version of its symbols that may be needed
    objcopy: str = "objcopy"

    @property
    def windows(self) -> bool:
        return self.key.startswith("win")

    @property
    def macos(self) -> bool:
        return self.key.startswith("osx")

    @property
    def program(self) -> str:
        return "bin/qwenguard.exe" if self.windows else "bin/qwenguard"

    @property
    def library(self) -> str:
        """The shared library, as a path in its prefix."""
        if self.windows:
            return "bin/qwenguard.dll"
        return f"lib/libqwenguard.{VERSION}.dylib" if self.macos else f"lib/libqwenguard.so.{VERSION}"

    @property
    def links(self) -> list[str]:
        """The names under which the linker and the loader look for it."""
        if self.windows:
            return []
        if self.macos:
            return [f"libqwenguard.{INTERFACE}.dylib", "libqwenguard.dylib"]
        return [f"libqwenguard.so.{INTERFACE}", "libqwenguard.so"]

    @property
    def plain(self) -> str:
        """The shared library's name where nothing is linked."""
        return "qwenguard.dll" if self.windows else "libqwenguard.dylib" if self.macos else "libqwenguard.so"

    @property
    def jni(self) -> str:
        return "qwenguard_jni.dll" if self.windows else f"libqwenguard_jni.{'dylib' if self.macos else 'so'}"

    @property
    def runtime(self) -> str:
        """ONNX Runtime's library, as a path in its prefix."""
        if self.windows:
            return "bin/onnxruntime.dll"
        return "lib/libonnxruntime.dylib" if self.macos else "lib/libonnxruntime.so"

    @property
    def system_libraries(self) -> str:
        """What the static library needs, as `rustc --print native-static-libs` names it."""
        if self.windows:
            return "-lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp"
        return "-liconv -lSystem" if self.macos else "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"

    @property
    def natives(self) -> Path:
        return NATIVES / self.key


PLATFORMS = [
    Platform(
        "linux-x64", "x86_64-unknown-linux-gnu", "x86_64-unknown-linux-gnu.2.28", "manylinux_2_28_x86_64",
        "linux-x86_64", "linux-x64", "linux_amd64", "amd64", "x86_64-linux-gnu", "2.28",
    ),
    Platform(
        "linux-arm64", "aarch64-unknown-linux-gnu", "aarch64-unknown-linux-gnu.2.28", "manylinux_2_28_aarch64",
        "linux-aarch64", "linux-aarch64", "linux_arm64", "arm64", "aarch64-linux-gnu", "2.28",
        "aarch64-linux-gnu-objcopy",
    ),
    Platform(
        "win-x64", "x86_64-pc-windows-gnu", "", "win_amd64", "windows-x86_64", "win-x64", "windows_amd64",
        objcopy="x86_64-w64-mingw32-objcopy",
    ),
    Platform(
        "osx-arm64", "aarch64-apple-darwin", "aarch64-apple-darwin", "macosx_14_0_arm64", "macos-aarch64", "osx-aarch64",
        "darwin_arm64",
    ),
]


def by_key(key: str) -> Platform:
    for platform in PLATFORMS:
        if platform.key == key:
            return platform
    raise SystemExit(f"there is no platform {key}: the table in packaging/platforms.py has "
                     + ", ".join(platform.key for platform in PLATFORMS))


def built(notice: bool = True) -> list[Platform]:
    """The platforms whose natives are there. The others are left out, and that is said."""
    there = [platform for platform in PLATFORMS if (platform.natives / ".complete").is_file()]
    for platform in there:
        check_version(platform)
    if not there:
        raise SystemExit("no natives are built: make natives-linux-x64")
    for platform in PLATFORMS if notice else []:
        if platform not in there:
            print(f"LEFT OUT: {platform.key}: {platform.natives.relative_to(ROOT)} is not built")
    return there


def check_version(platform: Platform) -> None:
    """Natives say of which version they are: see natives.py."""
    version = (platform.natives / ".complete").read_text().split()[0]
    if version != VERSION:
        raise SystemExit(f"the natives of {platform.key} are of version {version}, not {VERSION}: make natives-{platform.key}")


def epoch() -> int:
    """The time that everything in packages has: the commit's, so that the same commit makes the same bytes."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    said = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    if said.returncode:
        raise SystemExit("not a git repository: set SOURCE_DATE_EPOCH to the seconds of the release")
    return int(said.stdout)


def run(*command: object, **options: object) -> None:
    """A command that has to succeed."""
    words = [str(word) for word in command]
    if subprocess.run(words, **options).returncode:
        raise SystemExit(f"failed: {' '.join(words)}")
