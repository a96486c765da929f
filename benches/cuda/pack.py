"""Packs what a machine with an NVIDIA GPU and without a network needs, to run `make test-cuda` and the bench there.

    pack.py OUT [--architecture 90] [--program FILE]... [--bundle DIR]...

OUT gets `pack.000`, `pack.001`, ... of at most 60 MiB each, with `SHA256SUMS` and `unpack.sh`, which joins and unpacks
them. In the pack are ONNX Runtime's GPU build, with device code for one architecture only; programs, such as built tests
and benches; and bundles. CUDA 13 itself (cublas, cublasLt, cudart, curand) and the driver are not: PyTorch's wheels for
CUDA 13 bring the former. Tests look for files below the folder that they were built in: put a copy of the sources there,
and unpack into it, so that the bundles are in its target/.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

RUNTIME = "onnxruntime-gpu==1.31.1"
PIECE = 60 << 20

# An ELF file of 64 bits: where its section table is, and what a section's entry holds.
SECTION_TABLE, SECTION_COUNT, SECTION_NAMES = (0x28, "<Q"), (0x3C, "<H"), (0x3E, "<H")
SECTION = struct.Struct("<IIQQQQIIQQ")
# A container of device code: its mark, then version, bytes of its header and of what follows.
CONTAINER, CONTAINER_MARK = struct.Struct("<IHHQ"), 0xBA55ED50
# An entry in it: kind, version, bytes of its header, bytes of its code. Its architecture stands further on.
ENTRY, ARCHITECTURE_AT = struct.Struct("<HHIQ"), 28
INTERMEDIATE, MACHINE = 1, 2


def fatbin(library: bytes | bytearray) -> tuple[int, int]:
    """Where the section with device code begins and ends."""
    table, count, names = (
        struct.unpack_from(form, library, at)[0] for at, form in (SECTION_TABLE, SECTION_COUNT, SECTION_NAMES)
    )
    sections = [SECTION.unpack_from(library, table + index * SECTION.size) for index in range(count)]
    texts = sections[names][4]
    for name, _, _, _, offset, size, *_ in sections:
        if library[texts + name : library.index(0, texts + name)] == b".nv_fatbin":
            return offset, offset + size
    raise SystemExit("pack.py: the library has no device code")


def containers(library: bytes | bytearray, start: int, end: int) -> Iterator[list[tuple[int, int, int, int]]]:
    """The entries of each container: kind, architecture, and where their code begins and ends."""
    at = start
    while at + CONTAINER.size <= end:
        mark, _, header, size = CONTAINER.unpack_from(library, at)
        if mark != CONTAINER_MARK:
            at += 8
            continue
        entries, here, last = [], at + header, at + header + size
        while here + ENTRY.size <= last:
            kind, _, own, code = ENTRY.unpack_from(library, here)
            if kind not in (INTERMEDIATE, MACHINE) or own < ENTRY.size or code == 0:
                break
            architecture = struct.unpack_from("<I", library, here + ARCHITECTURE_AT)[0]
            entries.append((kind, architecture, here + own, here + own + code))
            here += own + code
        yield entries
        at = (last + 7) & ~7


def thin(library: bytearray, architecture: int) -> tuple[int, int]:
    """Zeroes the device code of other architectures where there is some for this one; returns bytes kept and zeroed.

    What a container has for this architecture is kept, or else its intermediate code, which the driver compiles.
    """
    kept = zeroed = 0
    for entries in containers(library, *fatbin(library)):
        own = any(kind == MACHINE and arch == architecture for kind, arch, _, _ in entries)
        for kind, arch, start, end in entries:
            fits = kind == MACHINE and arch == architecture
            if fits if own else kind == INTERMEDIATE and arch <= architecture:
                kept += end - start
            else:
                library[start:end] = bytes(end - start)
                zeroed += end - start
    return kept, zeroed


def runtime(folder: Path, architecture: int) -> list[Path]:
    """ONNX Runtime's libraries, out of its wheel."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*pip, RUNTIME], check=True)
    libraries = []
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        for member in wheel.namelist():
            name = Path(member).name
            if not name.startswith("libonnxruntime") or "tensorrt" in name:
                continue
            name = "libonnxruntime.so" if name.startswith("libonnxruntime.so") else name
            content = bytearray(wheel.read(member))
            if "cuda" in name:
                kept, zeroed = thin(content, architecture)
                print(f"{name}: {kept >> 20} MiB of device code kept, {zeroed >> 20} MiB left out")
            libraries.append(folder / name)
            libraries[-1].write_bytes(content)
    return libraries


def pieces(archive: Path, out: Path) -> list[Path]:
    all_pieces = []
    with archive.open("rb") as source:
        while piece := source.read(PIECE):
            all_pieces.append(out / f"pack.{len(all_pieces):03}")
            all_pieces[-1].write_bytes(piece)
    return all_pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--architecture", type=int, default=90, help="of the GPU: 80 for an A100, 90 for an H100")
    parser.add_argument("--program", type=Path, action="append", default=[])
    parser.add_argument("--bundle", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    missing = [path for path in (*arguments.program, *arguments.bundle) if not path.exists()]
    if missing:
        parser.error(f"{missing[0]}: no such file or folder")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for old in arguments.out.glob("pack.*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "pack.tar.xz"
        with lzma.open(archive, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
            for library in runtime(Path(temporary), arguments.architecture):
                tar.add(library, f"onnxruntime/{library.name}")
            for program in arguments.program:
                # Without what debuggers read, which is most of it.
                stripped = Path(temporary) / program.name
                subprocess.run(["strip", "-o", str(stripped), str(program)], check=True)
                tar.add(stripped, f"programs/{program.name}")
            for bundle in arguments.bundle:
                tar.add(bundle, f"target/{bundle.parent.name}/{bundle.name}")
        made = pieces(archive, arguments.out)
    sums = [f"{hashlib.sha256(piece.read_bytes()).hexdigest()}  {piece.name}\n" for piece in made]
    (arguments.out / "SHA256SUMS").write_text("".join(sums))
    unpack = "#!/bin/sh\nset -eu\ncd \"$(dirname \"$0\")\"\nsha256sum -c SHA256SUMS\ncat pack.* | tar xJ\n"
    (arguments.out / "unpack.sh").write_text(unpack)
    print(f"{len(made)} pieces in {arguments.out}, {sum(piece.stat().st_size for piece in made) >> 20} MiB")


if __name__ == "__main__":
    main()
