"""Checks what was linked for macOS, from the files alone: macho.py LIBRARY PROGRAM HEADER.

Both need no other libraries than those of every Mac, the library none but the C library and what belongs to it; it is
named by @rpath and exports the functions of the header and nothing else. Both are signed: Macs on ARM run nothing else.
"""

import hashlib
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

SYSTEM = {"/usr/lib/libSystem.B.dylib", "/usr/lib/libiconv.2.dylib"}
# What the program checks certificates with.
OF_THE_PROGRAM = {
    f"/System/Library/Frameworks/{name}.framework/Versions/A/{name}" for name in ("CoreFoundation", "Security")
}

MAGIC_64, ARM64 = 0xFEEDFACF, 0x0100000C
LOAD_DYLIB, ID_DYLIB = 0xC, 0xD
WEAK_DYLIB, REEXPORT_DYLIB = 0x80000018, 0x8000001F
# Where the trie of exported names is: in a command of its own, or among others in an older one.
EXPORTS_TRIE, DYLD_INFO = 0x80000033, 0x80000022
CODE_SIGNATURE, CODE_DIRECTORY = 0x1D, 0xFADE0C02


def text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and what comes after it."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def names(trie: bytes, node: int = 0, prefix: str = "") -> set[str]:
    """The names in a trie, each node of which has a flag and an address if a name ends there, and its children."""
    size, at = number(trie, node)
    found = {prefix} if size else set()
    at += size
    children, at = trie[at], at + 1
    for _ in range(children):
        label = text(trie, at)
        child, at = number(trie, at + len(label) + 1)
        found |= names(trie, child, prefix + label)
    return found


def commands(path: str, data: bytes) -> Iterator[tuple[int, int]]:
    """What a loader has to do, and where in the file that is described."""
    magic, processor, _, _, count, _, _, _ = struct.unpack_from("<8I", data)
    if (magic, processor) != (MAGIC_64, ARM64):
        sys.exit(f"{path} is not made for macOS on ARM")
    offset = 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, offset)
        yield command, offset
        offset += size


def signed(data: bytes, start: int) -> bool:
    """Whether the digests of the signature there are those of the file's pages up to it."""
    _, _, parts = struct.unpack_from(">3I", data, start)
    for part in range(parts):
        directory = start + struct.unpack_from(">I", data, start + 16 + 8 * part)[0]
        if struct.unpack_from(">I", data, directory)[0] == CODE_DIRECTORY:
            first, _, _, pages, end = struct.unpack_from(">5I", data, directory + 16)
            length, _, _, page = struct.unpack_from(">4B", data, directory + 36)
            digests = data[directory + first : directory + first + pages * length]
            places = range(0, end, 1 << page)
            code = (data[place : min(place + (1 << page), end)] for place in places)
            return end == start and digests == b"".join(hashlib.sha256(one).digest() for one in code)
    return False


def read(path: str) -> tuple[str | None, set[str], set[str]]:
    """The name of a library, the libraries that it needs, and what it exports."""
    data = Path(path).read_bytes()
    name, needed, trie, signature = None, set(), b"", 0
    for command, offset in commands(path, data):
        if command in (LOAD_DYLIB, WEAK_DYLIB, REEXPORT_DYLIB):
            needed.add(text(data, offset + struct.unpack_from("<I", data, offset + 8)[0]))
        elif command == ID_DYLIB:
            name = text(data, offset + struct.unpack_from("<I", data, offset + 8)[0])
        elif command in (EXPORTS_TRIE, DYLD_INFO):
            start, length = struct.unpack_from("<2I", data, offset + (8 if command == EXPORTS_TRIE else 40))
            trie = data[start : start + length] or trie
        elif command == CODE_SIGNATURE:
            signature = struct.unpack_from("<I", data, offset + 8)[0]
    if not signature or not signed(data, signature):
        sys.exit(f"{path} is not signed, or not as it is")
    return name, needed, names(trie) if trie else set()


def main() -> None:
    library, program, header = sys.argv[1:]
    name, needed, exported = read(library)
    if name is None or not re.fullmatch(r"@rpath/libqwenguard\.\d+\.\d+\.dylib", name):
        sys.exit(f"{library}: its name is {name}, not one with @rpath")
    code = re.sub(r"/\*.*?\*/", "", Path(header).read_text(encoding="utf-8"), flags=re.DOTALL)
    functions = {f"_{function}" for function in re.findall(r"\b(qg_\w+)\(", code)}
    if exported != functions:
        difference = sorted(exported ^ functions)
        sys.exit(f"{library}: {len(difference)} names are not as in the header: {difference[:10]}")
    for path, libraries, allowed in ((library, needed, SYSTEM), (program, read(program)[1], SYSTEM | OF_THE_PROGRAM)):
        if not libraries <= allowed:
            sys.exit(f"{path} needs {sorted(libraries - allowed)}")
    print(f"{name}: {len(exported)} functions; needs {', '.join(sorted(needed))}")


if __name__ == "__main__":
    main()
