"""Writes the raw layers of Go, Java and C# from include/qwenguard.h:

    python3 bindings/raw            writes them
    python3 bindings/raw --check    fails if they are not what it would write
"""

import sys
from pathlib import Path

import csharp
import go
import java
from header import Header

ROOT = Path(__file__).resolve().parent.parent.parent


def main():
    header = Header(ROOT / "include/qwenguard.h")
    written = {**go.files(header), **java.files(header), **csharp.files(header)}
    if sys.argv[1:] == []:
        for name, text in written.items():
            (ROOT / name).write_text(text, encoding="utf-8")
        return
    if sys.argv[1:] != ["--check"]:
        sys.exit(__doc__)
    stale = [name for name, text in written.items()
             if not (ROOT / name).is_file() or (ROOT / name).read_text(encoding="utf-8") != text]
    if stale:
        sys.exit("out of date: " + ", ".join(stale) + "; run `make raw`")
    if header.layout() != set((ROOT / "tests/c/layout.txt").read_text(encoding="utf-8").splitlines()):
        sys.exit("tests/c/layout.txt has other structs than include/qwenguard.h")


main()
