"""Packs each platform's natives as a folder that can be moved: a tar.gz, or a zip for Windows. What debuggers need is an archive
of its own."""

import re
import shutil
import subprocess
from pathlib import Path

from archives import size, tar_gz, zip_folder
from notices import notices
from platforms import PACKAGES, ROOT, VERSION, Platform, built, by_key

DOCUMENTS = ("LICENSE", "README.md", "CHANGELOG.md", "docs/policy.md")


def lay_out(platform: Platform, prefix: Path) -> None:
    """The prefix: program, libraries, headers, files of pkg-config and CMake, documents."""
    shutil.rmtree(prefix, ignore_errors=True)
    natives = platform.natives
    for part in ("bin", "lib"):
        shutil.copytree(natives / part, prefix / part, symlinks=True, ignore=shutil.ignore_patterns("debug"))
    (prefix / "include").mkdir()
    for header in ("qwenguard.h", "qwenguard.hpp"):
        shutil.copy(ROOT / "include" / header, prefix / "include")
    for folder in ("lib/pkgconfig", "share/cmake/qwenguard", "share/doc/qwenguard"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "lib/pkgconfig/qwenguard.pc").write_text(pkg_config(platform))
    for file in (ROOT / "packaging").glob("*.cmake"):
        shutil.copy(file, prefix / "share/cmake/qwenguard")
    documents = prefix / "share/doc/qwenguard"
    for document in DOCUMENTS:
        shutil.copy(ROOT / document, documents)
    for notice in (natives / "notices").iterdir():
        shutil.copy(notice, documents)
    (documents / "THIRD-PARTY-NOTICES.txt").write_text(notices("qwenguard", "qwenguard-cli"))
    if not platform.windows:
        add_manual(prefix / "share")


def pkg_config(platform: Platform, fixed: dict[str, str] = {}) -> str:
    """The file with this platform's libraries, and with what a fixed place has otherwise."""
    fixed = {"Libs.private: ": f"Libs.private: {platform.system_libraries}"} | fixed
    lines = (ROOT / "packaging/qwenguard.pc").read_text().splitlines()
    return "\n".join(next((new for old, new in fixed.items() if line.startswith(old)), line) for line in lines) + "\n"


def commands(page: bytes) -> list[str]:
    """What the program's own manual page names pages of, in roff: qwenguard\\-serve(1)."""
    return re.findall(r"^qwenguard\\-(\w+)\(1\)$", page.decode(), re.M)


def add_manual(share: Path) -> None:
    """Manual pages and completions, which the program for this machine writes."""
    program = by_key("linux-x64").natives / "bin/qwenguard"
    if not program.is_file():
        print("LEFT OUT: manual pages and completions: the program for linux-x64, which writes them, is not built")
        return

    def said(*words: str) -> bytes:
        return subprocess.run([program, *words], check=True, capture_output=True).stdout

    pages = {"qwenguard": said("man")}
    pages |= {f"qwenguard-{command}": said("man", command) for command in commands(pages["qwenguard"])}
    for name, page in pages.items():
        file = share / f"man/man1/{name}.1"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(page)
    places = {"bash": "bash-completion/completions/qwenguard", "zsh": "zsh/site-functions/_qwenguard",
              "fish": "fish/vendor_completions.d/qwenguard.fish"}
    for shell, place in places.items():
        (share / place).parent.mkdir(parents=True)
        (share / place).write_bytes(said("completions", shell))


def pack(platform: Platform) -> None:
    name = f"qwenguard-{VERSION}-{platform.key}"
    prefix = PACKAGES / "prefix" / name
    lay_out(platform, prefix)
    archive(platform, prefix, name)
    if (platform.natives / "lib/debug").is_dir():
        archive(platform, platform.natives / "lib/debug", f"{name}-debug")


def archive(platform: Platform, folder: Path, name: str) -> None:
    packed = PACKAGES / (name + (".zip" if platform.windows else ".tar.gz"))
    if platform.windows:
        zip_folder(packed, folder, f"{name}/")
    else:
        tar_gz(packed, folder, name)
    print(f"{packed.name}: {size(packed)}")


if __name__ == "__main__":
    for each in built():
        pack(each)
