"""Builds a clone of the last commit, with the natives that this tree has, in a folder with another name, and compares its packages
with those of this tree, byte by byte. What differs is an error, but for what is explained here."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from archives import files_of, sha256
from platforms import ROOT, TOOLS, built, epoch, run

CLONE = ROOT / "target/reproducible/another folder"
EXPECTED = (
    # Mono's compiler writes a new identity into each assembly; dotnet, which makes those of a release, does not.
    r"Qwenguard\..*",
    # Zig compiles some sources of its own, such as its unwinder's, and names the folders in what debuggers read.
    r".*\.debug", r".*-debug\.(tar\.gz|zip)", r"qwenguard-dbgsym_.*",
)
KINDS = ("tarballs", "debs", "crates", "maven", "nupkg", "gomodules", "wheel", "sbom")


def build(folder: Path) -> Path:
    """The folder of what is built there."""
    natives = [f"natives-{platform.key}" for platform in built(notice=False)]
    run("make", *natives, *KINDS, cwd=folder, env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch())})
    return folder / "target"


def clone() -> Path:
    shutil.rmtree(CLONE, ignore_errors=True)
    run("git", "clone", "--quiet", ROOT, CLONE)
    (CLONE / "target").mkdir()
    (CLONE / "target/tools").symlink_to(TOOLS.parent)
    # Newer than the clone's list of them: they are the same.
    (TOOLS.parent / ".installed").touch()
    return CLONE


def digests(target: Path) -> dict[str, str]:
    found = {}
    for part in ("natives", "packages"):
        for path in files_of(target / part):
            relative = path.relative_to(target)
            if not path.is_symlink() and relative.parts[1] not in ("prefix", "SHA256SUMS"):
                found[str(relative)] = sha256(path)
    return found


def main() -> None:
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, check=True, capture_output=True).stdout:
        raise SystemExit("there are changes that are not committed, which the clone would lack")
    first, second = digests(build(ROOT)), digests(build(clone()))
    differs = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    wrong = [name for name in differs if not any(re.fullmatch(pattern, Path(name).name) for pattern in EXPECTED)]
    for name in differs:
        print(f"{'DIFFERS' if name in wrong else 'differs, as expected'}: {name}")
    print(f"{len(first.keys() - differs)} of {len(first)} files are the same")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
