"""Makes a release: release.py VERSION. Sets the version everywhere, closes the changelog's section, checks the binary interface,
builds all packages and runs their tests. It commits and publishes nothing: it says what is left to do.

    release.py --check     only says whether all places have the same version"""

import os
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from platforms import ROOT, epoch, run

NUMBER = r"\d+\.\d+\.\d+"
# Where the whole version stands: files, and what is around it, with § for the version.
WHOLE = [
    ("Cargo.toml", r'(?m)(?<=^version = ")§(?=")'),
    ("cli/Cargo.toml", r'(?<=path = "\.\.", version = ")§(?=")'),
    ("cli/src/serve/openapi.json", r'(?m)(?<=^    "version": ")§(?=",$)'),
    ("packaging/kubernetes.yaml", r"(?<=image: qwenguard:)§"),
    ("packaging/qwenguard.pc", r"(?<=Version: )§"),
    ("packaging/qwenguard-config-version.cmake", r'(?<=PACKAGE_VERSION ")§(?=")'),
    ("export/qwenguard_export/__init__.py", r'(?<=__version__ = ")§(?=")'),
    ("bindings/csharp/src/Qwenguard.csproj", r"(?<=<Version>)§(?=</Version>)"),
    ("bindings/c/README.md", r"(?<=qwenguard-)§"),
    ("bindings/cpp/README.md", r"(?<=qwenguard-)§"),
    ("bindings/csharp/README.md", r"(?<=qwenguard-)§"),
    ("bindings/csharp/tests/LoaderTests.cs", r"(?<=n|\")§(?=\\n)"),
    ("bindings/go/README.md", r"(?<=qwenguard-)§|(?<=go@v)§"),
    ("bindings/go/qwenguardprometheus/go.mod", r"(?<=bindings/go v)§"),
    ("bindings/java/pom.xml", r"(?<=<artifactId>qwenguard</artifactId>\n  <version>)§(?=</version>)"),
    ("bindings/java/README.md", r"(?<=<version>)§(?=</version>)|(?<=qwenguard-)§"),
    ("docs/packages.md", "(?:" + "|".join(f"(?<={before})" for before in (
        "qwenguard[-_:@/]", r"Qwenguard\.", "qwenguard-cli-", "uard --version ", "cli --version ", "bindings/go@v", "prometheus@v",
        "<artifactId>qwenguard</artifactId>\n      <version>")) + ")§"),
]
# Where the part of it stands that the binary interface changes with: in the names of shared libraries, and for CMake.
INTERFACE_FILES = ("Makefile", "packaging/*", "bindings/**/*", "tests/ffi/*.rs", "tests/c/**/*", "docs/*.md")
INTERFACE = r"(?<=libqwenguard\.so\.)§(?!\d|\.\d)|(?<=libqwenguard\.)§(?=\.dylib)|(?<=\"\.so\.)§(?=\")|(?<=\"\.)§(?=\.dylib\")"
CMAKE = ("packaging/qwenguard-config-version.cmake", r'(?<=VERSION_GREATER_EQUAL ")§(?=")')
NUMBERS = ("src/ffi/version.rs", "include/qwenguard.h")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def replace(path: Path, pattern: str, old: str, new: str) -> int:
    before = read(path)
    text, count = re.subn(pattern.replace("§", re.escape(old)), new, before)
    # What stays as it is keeps its time, so that nothing is compiled again.
    if text != before:
        path.write_text(text, encoding="utf-8")
    return count


def current(root: Path) -> str:
    return re.search(rf'(?m)^version = "({NUMBER})"', read(root / "Cargo.toml"))[1]


def disagreements(root: Path) -> list[str]:
    """Places whose version is not that of Cargo.toml."""
    version, found = current(root), []
    for file, pattern in WHOLE:
        versions = set(re.findall(pattern.replace("§", NUMBER), read(root / file)))
        if versions != {version}:
            found.append(f"{file}: {', '.join(sorted(versions)) or 'no version'}, not {version}")
    numbers = dict(zip(("MAJOR", "MINOR", "PATCH"), version.split(".")))
    for file in NUMBERS:
        for name, number in numbers.items():
            if not re.search(rf"QG_VERSION_{name}(: u32 =)? {number}\b", read(root / file)):
                found.append(f"{file}: QG_VERSION_{name} is not {number}")
    return found


def interface_files(root: Path) -> list[Path]:
    files = {path for pattern in INTERFACE_FILES for path in root.glob(pattern) if path.is_file()}
    return sorted(path for path in files if path.suffix in (".md", ".cmake", ".java", ".sh", ".rs", ".c", ".txt", ".xml", ".in", "")
                  and "target" not in path.relative_to(root).parts)


def set_version(root: Path, new: str) -> None:
    old = current(root)
    for file, pattern in WHOLE:
        if not replace(root / file, pattern, old, new):
            raise SystemExit(f"{file} has no version {old} where release.py looks for it")
    old_interface, new_interface = (version.rsplit(".", 1)[0] for version in (old, new))
    replace(root / CMAKE[0], CMAKE[1], old_interface, new_interface)
    for path in interface_files(root):
        replace(path, INTERFACE, old_interface, new_interface)
    for name, before, after in zip(("MAJOR", "MINOR", "PATCH"), old.split("."), new.split(".")):
        for file in NUMBERS:
            replace(root / file, rf"(?<=QG_VERSION_{name} )§(?=\n)|(?<=QG_VERSION_{name}: u32 = )§(?=;)", before, after)


def close_changelog(root: Path, version: str, day: str) -> None:
    path = root / "CHANGELOG.md"
    text = read(path)
    first = re.search(rf"(?m)^## ({NUMBER})(, unreleased)?(?:, .*)?\n(.*?)(?=^## |\Z)", text, re.S | re.M)
    if not first or first[1] != version or not first[2]:
        raise SystemExit(f'CHANGELOG.md: its first section is not "## {version}, unreleased"')
    if "\n- " not in first[0]:
        raise SystemExit(f"CHANGELOG.md: the section {version} says nothing")
    path.write_text(text.replace(f"## {version}, unreleased", f"## {version}, {day}", 1), encoding="utf-8")


def check_number(root: Path, version: str) -> None:
    if not re.fullmatch(NUMBER, version):
        raise SystemExit(f"VERSION={version}: a version is three numbers with points between them")
    parts, before = ([int(part) for part in text.split(".")] for text in (version, current(root)))
    if parts < before:
        raise SystemExit(f"VERSION={version} is older than {current(root)}")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def check_tree(version: str) -> None:
    if git("status", "--porcelain"):
        raise SystemExit("there are changes that are not committed")
    if git("tag", "--list", f"v{version}"):
        raise SystemExit(f"v{version} is released already")


def release(version: str) -> None:
    check_number(ROOT, version)
    check_tree(version)
    # Before anything changes: what programs rely on, and what every place says.
    run("make", "abi", cwd=ROOT)
    if found := disagreements(ROOT):
        raise SystemExit("\n".join(found))
    day = datetime.fromtimestamp(max(epoch(), 0), timezone.utc).strftime("%Y-%m-%d")
    close_changelog(ROOT, version, day)
    set_version(ROOT, version)
    run("cargo", "update", "--workspace", cwd=ROOT)
    run("make", "raw", "abi-list", cwd=ROOT)
    shutil.rmtree(ROOT / "target/packages", ignore_errors=True)
    # A release has the packages of all platforms, and leaves no test out.
    run("make", "deny", "natives", "packages", "test-packages", cwd=ROOT, env=os.environ | {"QWENGUARD_REQUIRE_TOOLCHAINS": "1"})
    print(f"{version} is built and tested, in target/packages. What is left: git commit -am 'Version {version}' and "
          f"git tag v{version}; pushing the tag publishes it (.github/workflows/release.yml)")


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        if found := disagreements(ROOT):
            raise SystemExit("\n".join(found))
        print(f"every place has version {current(ROOT)}")
    elif len(sys.argv) == 2:
        release(sys.argv[1])
    else:
        raise SystemExit("make release VERSION=x.y.z")


if __name__ == "__main__":
    main()
