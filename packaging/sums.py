"""Writes SHA256SUMS of all packages: `sha256sum --check SHA256SUMS` checks them."""

from archives import files_of, sha256
from platforms import PACKAGES


def main() -> None:
    made = [path for path in files_of(PACKAGES) if path.relative_to(PACKAGES).parts[0] not in ("prefix", "SHA256SUMS")]
    lines = [f"{sha256(path)}  {path.relative_to(PACKAGES).as_posix()}\n" for path in made]
    (PACKAGES / "SHA256SUMS").write_text("".join(lines))
    print(f"SHA256SUMS: {len(lines)} files")


if __name__ == "__main__":
    main()
