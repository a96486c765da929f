"""Builds the natives for Linux on x86-64 and their packages twice, from two clones of the same commit in folders with different names, and
compares the bytes. What differs is an error. It takes two builds from scratch."""

import os
import shutil
from pathlib import Path

from archives import files_of, sha256
from platforms import ROOT, TOOLS, epoch, run

WORK = ROOT / "target/reproducible"
# Mono's compiler writes a new identity into each assembly; dotnet, which makes those of a release, does not.
EXPECTED = ("Qwenguard.",)


def build(name: str) -> Path:
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    run("git", "clone", "--quiet", ROOT, folder)
    (folder / "target").mkdir()
    (folder / "target/tools").symlink_to(TOOLS.parent)
    run("nice", "-n", "10", "make", "tarballs", "debs", "crates", "maven", "nupkg", "gomodules", "sbom", cwd=folder,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch())})
    return folder / "target"


def digests(target: Path) -> dict[str, str]:
    found = {}
    for part in ("natives", "packages"):
        for path in files_of(target / part):
            relative = path.relative_to(target)
            if not path.is_symlink() and relative.parts[1] != "prefix":
                found[str(relative)] = sha256(path)
    return found


def main() -> None:
    first, second = (digests(build(name)) for name in ("one", "a second build, elsewhere"))
    differs = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    for name in differs:
        expected = Path(name).name.startswith(EXPECTED)
        print(f"{'differs, as expected' if expected else 'DIFFERS'}: {name}")
    wrong = [name for name in differs if not Path(name).name.startswith(EXPECTED)]
    print(f"{len(first) - len(differs)} of {len(first)} files are the same")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
