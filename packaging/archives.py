"""Archives whose bytes depend on what is in them alone: sorted, with one time, one owner and plain permissions."""

import gzip
import hashlib
import io
import os
import tarfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path

from platforms import epoch


def files_of(folder: Path) -> list[Path]:
    """All files and links below a folder, by name."""
    return sorted(
        path for path in folder.rglob("*") if path.is_symlink() or path.is_file()
    )


def mode_of(path: Path) -> int:
    return 0o755 if os.access(path, os.X_OK) else 0o644


def tar_gz(archive: Path, folder: Path, top: str) -> None:
    """Packs a folder's files below the name `top`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in files_of(folder):
            entry = tarfile.TarInfo(f"{top}/{path.relative_to(folder).as_posix()}")
            entry.mtime = epoch()
            if path.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
                tar.addfile(entry)
            else:
                entry.size, entry.mode = path.stat().st_size, mode_of(path)
                with path.open("rb") as source:
                    tar.addfile(entry, source)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.open("wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=epoch()) as zipped:
        zipped.write(packed.getbuffer())


def write_zip(archive: Path, entries: list[tuple[str, bytes | Path, int]]) -> None:
    """Writes entries of name, content and permissions, in their order."""
    # Zip files know no time before 1980.
    moment = datetime.fromtimestamp(max(epoch(), 315532800), timezone.utc).timetuple()[:6]
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name, moment)
            info.create_system, info.external_attr = 3, (0o100000 | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(info, content.read_bytes() if isinstance(content, Path) else content)


def zip_folder(archive: Path, folder: Path, top: str = "") -> None:
    write_zip(archive, [
        (top + path.relative_to(folder).as_posix(), path, mode_of(path)) for path in files_of(folder)
    ])


def sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
