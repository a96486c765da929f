"""The hand-written checks in a layout that `qwenguard eval` reads:  labelled.py prompts|answers FILE... > labelled.jsonl

A row with a level is a prompt. Any other is an answer: its fine part with the harmful one right behind it, if there is one. The
first unsafe character is the first letter of the harmful part, not the space before it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def labelled(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the plain layout of docs/evaluation.md."""
    named: dict[str, Any] = {name: row[name] for name in ("prompt", "category") if name in row}
    if "level" in row:
        return {**named, "label": row["level"]}
    fine, harm = row["safe"], row.get("harm", "")
    said: dict[str, Any] = {**named, "response": fine + harm, "label": "Unsafe" if harm else "Safe"}
    return {**said, "onset": len(fine + harm) - len(harm.lstrip())} if harm else said


def main() -> None:
    """Prints the prompts or the answers of all files."""
    if len(sys.argv) < 3 or sys.argv[1] not in ("prompts", "answers"):
        sys.exit("labelled.py prompts|answers FILE...")
    for path in map(Path, sys.argv[2:]):
        for number, row in enumerate(map(json.loads, path.open(encoding="utf-8")), 1):
            if ("level" in row) == (sys.argv[1] == "prompts"):
                print(json.dumps({"id": f"{path.stem}:{number}", **labelled(row)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
