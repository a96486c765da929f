"""Checks what was linked for macOS, from the files alone: macho.py LIBRARY PROGRAM HEADER.

Both need no other libraries than those of every Mac; the library is named by @rpath and exports the functions of the header and
nothing else.
"""

import re
import struct
import sys
from pathlib import Path

SYSTEM = {"/usr/lib/libSystem.B.dylib", "/usr/lib/libiconv.2.dylib"}

MAGIC_64, ARM64 = 0xFEEDFACF, 0x0100000C
LOAD_DYLIB, ID_DYLIB, SYMTAB = 0xC, 0xD, 0x2
WEAK_DYLIB, REEXPORT_DYLIB = 0x80000018, 0x8000001F
# Of a symbol: for debuggers, private, the kind, defined in a section, seen from outside.
STAB, PRIVATE, KIND, SECTION, EXTERNAL = 0xE0, 0x10, 0x0E, 0x0E, 0x01


def text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def read(path: str) -> tuple[str | None, set[str], set[str]]:
    """The name of a library, the libraries that it needs, and what it exports."""
    data = Path(path).read_bytes()
    magic, processor, _, _, commands, _, _, _ = struct.unpack_from("<8I", data)
    if (magic, processor) != (MAGIC_64, ARM64):
        sys.exit(f"{path} is not made for macOS on ARM")
    name, needed, exported = None, set(), set()
    offset = 32
    for _ in range(commands):
        command, size = struct.unpack_from("<2I", data, offset)
        if command in (LOAD_DYLIB, WEAK_DYLIB, REEXPORT_DYLIB):
            needed.add(text(data, offset + struct.unpack_from("<I", data, offset + 8)[0]))
        elif command == ID_DYLIB:
            name = text(data, offset + struct.unpack_from("<I", data, offset + 8)[0])
        elif command == SYMTAB:
            symbols, count, strings, _ = struct.unpack_from("<4I", data, offset + 8)
            for index in range(count):
                at, kind = struct.unpack_from("<IB", data, symbols + 16 * index)
                if not kind & (STAB | PRIVATE) and kind & EXTERNAL and kind & KIND == SECTION:
                    exported.add(text(data, strings + at))
        offset += size
    return name, needed, exported


def main() -> None:
    library, program, header = sys.argv[1:]
    name, needed, exported = read(library)
    if name is None or not re.fullmatch(r"@rpath/libqwenguard\.\d+\.\d+\.dylib", name):
        sys.exit(f"{library}: its name is {name}, not one with @rpath")
    code = re.sub(r"/\*.*?\*/", "", Path(header).read_text(encoding="utf-8"), flags=re.DOTALL)
    functions = {f"_{function}" for function in re.findall(r"\b(qg_\w+)\(", code)}
    if exported != functions:
        sys.exit(f"{library}: not as in the header: {sorted(exported ^ functions)}")
    for path, libraries in ((library, needed), (program, read(program)[1])):
        if not libraries <= SYSTEM:
            sys.exit(f"{path} needs {sorted(libraries - SYSTEM)}")
    print(f"{name}: {len(exported)} functions; needs {', '.join(sorted(needed))}")


if __name__ == "__main__":
    main()
