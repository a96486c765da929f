"""Checks that programs which were compiled with the last release still run with the header's library:

    abi.py            compares include/qwenguard.h with packaging/abi.txt
    abi.py --write    writes packaging/abi.txt, which a release does

The list has every function with its types, every constant and every place in a struct. Nothing of it may change or go while
QG_ABI_VERSION is the same. Structs whose first field is struct_size may grow."""

import sys
from pathlib import Path

from platforms import ROOT

sys.path.append(str(ROOT / "bindings/raw"))
from header import Header, Value  # noqa: E402

LIST = ROOT / "packaging/abi.txt"
# These change with each version, and tests hold them to it.
VERSIONS = {"QG_VERSION_MAJOR", "QG_VERSION_MINOR", "QG_VERSION_PATCH", "QG_VERSION_NUMBER"}


def spelled(value: Value) -> str:
    text = ("const " if value.const else "") + value.type + "*" * value.stars
    return text + (f"[{value.count}]" if value.count else "")


def abi(header: Header) -> dict[str, str]:
    """What programs rely on: name and meaning."""
    found = {f"constant {name}": str(number) for name, number in header.constants.items() if name not in VERSIONS}
    for function in header.functions:
        parameters = ", ".join(spelled(parameter) for parameter in function.parameters) or "void"
        found[f"function {function.name}"] = f"{spelled(function.result)} ({parameters})"
    for name, struct in header.structs.items():
        if struct.fields[0].name != "struct_size":
            found[f"struct {name}"] = f"{struct.size} bytes, aligned to {struct.alignment}"
        for field in struct.fields:
            found[f"field {name}.{field.name}"] = f"{spelled(field)} at {struct.offsets[field.name]}"
    return found


def differences(released: dict[str, str], now: dict[str, str]) -> list[str]:
    gone = [f"{name}: {meaning}: it is gone" for name, meaning in released.items() if name not in now]
    changed = [f"{name}: {meaning}: it is {now[name]} now" for name, meaning in released.items()
               if now.get(name, meaning) != meaning]
    return gone + changed


def read(path: Path) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in path.read_text().splitlines() if line and not line.startswith("#"))


def main() -> None:
    now = abi(Header(ROOT / "include/qwenguard.h"))
    if sys.argv[1:] == ["--write"]:
        lines = "".join(f"{name} = {meaning}\n" for name, meaning in sorted(now.items()))
        LIST.write_text("# The binary interface of the last release: packaging/abi.py writes and checks it.\n" + lines)
        return
    released = read(LIST)
    version = "constant QG_ABI_VERSION"
    if released[version] != now[version]:
        print(f"QG_ABI_VERSION was {released[version]} and is {now[version]}: everything may change")
        return
    found = differences(released, now)
    if found:
        raise SystemExit("programs that were linked with the last release would break:\n  " + "\n  ".join(found)
                         + "\nKeep it, or raise QG_ABI_VERSION in src/ffi/version.rs.")
    print(f"{len(released)} names, types, numbers and places are as they were; {len(now) - len(released)} are new")


if __name__ == "__main__":
    main()
