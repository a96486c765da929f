"""The program ``qwenguard`` of the wheel: ``eval`` is here; every other command is that of the program in Rust."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HELP = """\
Usage: qwenguard eval [OPTIONS] [DATA]...

eval measures a guard on labelled conversations: qwenguard eval --help. It is the wheel's; all other commands are those of the
program in Rust"""


def main() -> int:
    """Runs a command."""
    if sys.argv[1:2] == ["eval"]:
        from .eval import main as evaluate

        return evaluate(sys.argv[2:])
    other = _program()
    if other is None:
        if sys.argv[1:2] in (["--version"], ["-V"]):
            from . import __version__

            print("qwenguard", __version__)
            return 0
        if sys.argv[1:2] in (["--help"], ["-h"], ["help"]):
            print(HELP + ", which is not on the path.")
            return 0
        print("qwenguard: of its commands the wheel has eval; the others need the program in Rust on the path", file=sys.stderr)
        return 2
    if sys.argv[1:] in (["--help"], ["-h"], ["help"]):
        print(HELP + ":\n", flush=True)
    os.execv(other, [other, *sys.argv[1:]])


def _program() -> str | None:
    """The first program of this name on the path that is none of Python's scripts."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = Path(folder, "qwenguard")
        if path.is_file() and os.access(path, os.X_OK):
            with path.open("rb") as file:
                if file.read(2) != b"#!":
                    return str(path)
    return None


if __name__ == "__main__":
    sys.exit(main())
