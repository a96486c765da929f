"""Makes Debian packages with nfpm: `qwenguard` with the program, the library and what compiles against it, and
`qwenguard-dbgsym`. ONNX Runtime lies with the library in a folder of their own, beside which it is found, so that it does not
meet Debian's."""

import gzip
import json
import shutil
from pathlib import Path

from archives import size
from platforms import INTERFACE, PACKAGES, ROOT, TOOLS, VERSION, Platform, built, epoch, run
from tarball import lay_out, pkg_config


def file(source: Path, destination: str, mode: int = 0o644) -> dict:
    return {"src": str(source), "dst": destination, "file_info": {"mode": mode}}


def link(target: str, destination: str) -> dict:
    return {"src": target, "dst": destination, "type": "symlink"}


def contents(platform: Platform, prefix: Path) -> list[dict]:
    private, libraries = f"/usr/lib/{platform.triplet}/qwenguard", f"/usr/lib/{platform.triplet}"
    library = Path(platform.library).name
    # Debian's folders of libraries have one level more than the file expects.
    fixed = {"prefix=": "prefix=/usr", "libdir=": f"libdir=${{prefix}}/lib/{platform.triplet}"}
    (prefix / "qwenguard.pc").write_text(pkg_config(platform, fixed))
    entries = [
        file(prefix / platform.program, f"{private}/qwenguard", 0o755),
        file(prefix / platform.library, f"{private}/{library}"),
        file(prefix / platform.runtime, f"{private}/{Path(platform.runtime).name}"),
        link(f"../lib/{platform.triplet}/qwenguard/qwenguard", "/usr/bin/qwenguard"),
        *(link(f"qwenguard/{library}", f"{libraries}/{name}") for name in platform.links),
        # What CMake installs with a program has the name that the loader asks for.
        link(library, f"{private}/{platform.links[0]}"),
        file(prefix / "lib/libqwenguard.a", f"{libraries}/libqwenguard.a"),
        file(prefix / "qwenguard.pc", f"{libraries}/pkgconfig/qwenguard.pc"),
    ]
    for folder in ("include", "share"):
        for source in sorted(path for path in (prefix / folder).rglob("*") if path.is_file()):
            destination = f"/usr/{source.relative_to(prefix)}"
            if source.suffix == ".1":
                packed = source.with_suffix(".1.gz")
                packed.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))
                source, destination = packed, destination + ".gz"
            entries.append(file(source, destination))
    # Where Debian's tools look for the licence.
    entries.append(file(ROOT / "LICENSE", "/usr/share/doc/qwenguard/copyright"))
    return entries


def package(platform: Platform, name: str, settings: dict) -> None:
    config = {
        "name": name,
        "arch": platform.deb,
        "platform": "linux",
        "version": VERSION,
        "maintainer": "The libqwenguard authors <libqwenguard@users.noreply.github.com>",
        "homepage": "https://github.com/libqwenguard/libqwenguard",
        "license": "Apache-2.0",
        "section": "libs",
        "deb": {"compression": "gzip"},
    } | settings
    file = PACKAGES / f"prefix/{name}-{platform.deb}.json"
    file.write_text(json.dumps(config, indent=1))
    archive = PACKAGES / f"{name}_{VERSION}_{platform.deb}.deb"
    archive.unlink(missing_ok=True)
    run(TOOLS / "nfpm", "package", "--config", file, "--packager", "deb", "--target", archive,
        env={"SOURCE_DATE_EPOCH": str(epoch()), "PATH": "/usr/bin:/bin"})
    print(f"{archive.name}: {size(archive)}")


def pack(platform: Platform) -> None:
    prefix = PACKAGES / f"prefix/deb-{platform.deb}"
    lay_out(platform, prefix)
    entries = contents(platform, prefix)
    package(platform, "qwenguard", {
        "description": "streaming moderation with Qwen3Guard-Stream\n"
        "The program qwenguard, the library libqwenguard with its headers and static library,\n"
        "and the ONNX Runtime that they use.",
        # The second name is that of Debian 10 and Ubuntu 18.10.
        "depends": [f"libc6 (>= {platform.glibc})", "libgcc-s1 | libgcc1", "libstdc++6"],
        "provides": [f"libqwenguard{INTERFACE}", "libqwenguard-dev"],
        "contents": entries,
        "deb": {"compression": "gzip", "triggers": {"activate_noawait": ["ldconfig"]}},
    })
    debug = platform.natives / "lib/debug"
    package(platform, "qwenguard-dbgsym", {
        "description": "what debuggers need for qwenguard",
        "section": "debug",
        "depends": [f"qwenguard (= {VERSION})"],
        "contents": [
            file(path, f"/usr/lib/debug/{path.relative_to(debug)}")
            for path in sorted(debug.rglob("*.debug"))
        ],
    })
    shutil.rmtree(prefix)


if __name__ == "__main__":
    for each in built():
        if each.deb:
            pack(each)
