"""Packs the crates as `cargo publish` uploads them, and says what is in the way of publishing."""

import shutil

from archives import size
from platforms import PACKAGES, ROOT, VERSION, run

# What crates.io takes.
LARGEST = 10 * 1024 * 1024


def main() -> None:
    # What is packed is compiled by `make test-packages`: see tests.py.
    run("cargo", "package", "--locked", "--workspace", "--exclude", "qwenguard-python", "--no-verify", "--allow-dirty", "--quiet", cwd=ROOT)
    PACKAGES.mkdir(parents=True, exist_ok=True)
    for name in ("qwenguard", "qwenguard-cli"):
        archive = PACKAGES / f"{name}-{VERSION}.crate"
        shutil.copy(ROOT / "target/package" / archive.name, archive)
        print(f"{archive.name}: {size(archive)}")
        if archive.stat().st_size > LARGEST:
            raise SystemExit(f"{archive.name} has {size(archive)}: crates.io takes 10 MiB")


if __name__ == "__main__":
    main()
