"""The folder of a bundle: written beside its final place, moved there when complete, and nothing deleted but what the
exporter wrote."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import limits
from .errors import ExportError, naming
from .files import created_in, forget_created, identity, open_regular, read_bytes, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MANIFEST = "guard.toml"

_EXPORTER = "qwenguard-export "

# Of renameat2 on Linux and renamex_np on macOS.
_AT_FDCWD = -100
_NEW = {"linux": 1, "darwin": 4}
_EXCHANGE = {"linux": 2, "darwin": 2}
_UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class _Old:
    """What --force may replace: a folder, and what its files were when they were found to be a bundle's."""

    identity: tuple[int, int]
    files: dict[str, tuple[int, ...]]


@contextmanager
def staging(out: Path, force: bool, sources: Iterable[Path] = ()) -> Iterator[Path]:
    """A new folder beside `out` that takes its place if the block succeeds, and vanishes if it does not.

    With `force` a bundle at `out` is replaced, by renaming, so that who has it open keeps its files. `sources` are the
    files that the bundle is made from; `out` must not hold them.
    """
    out = _absolute(out)
    _check_sources(out, sources)
    old = _check_target(out, force)
    partial = out.with_name(f"{out.name}.partial-{secrets.token_hex(4)}")
    with naming("create", partial):
        partial.mkdir()
    own = identity(os.lstat(partial))
    try:
        yield partial
        with naming("write", out):
            _publish(partial, out, own, old)
    finally:
        # Here lies what was not published, or what was replaced, or nothing.
        _remove(partial, own, created_in(partial))
        forget_created(partial)
        if old is not None and not _remove(partial, old.identity, old.files):
            print(f"qwenguard-export: {str(partial)!r} is kept: not all of it is the old bundle's", file=sys.stderr)


def _absolute(out: Path) -> Path:
    # A name such as "." has no place beside it. The folder is resolved as the system does, ".." after links.
    if out.name in ("", "..", "."):
        return Path(os.path.realpath(out))
    return Path(os.path.realpath(out.parent)) / out.name


def _check_sources(out: Path, sources: Iterable[Path]) -> None:
    place = Path(os.path.realpath(out))
    for source in sources:
        if place in (found := Path(os.path.realpath(source))).parents or place == found:
            raise ExportError(f"{out} holds {source}, which is to be exported; it is left as it is")


def _check_target(out: Path, force: bool) -> _Old | None:
    try:
        status = os.lstat(out)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not force:
        raise ExportError(f"{out} already exists; --force replaces a bundle")
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise ExportError(f"{out} is {kind} and not a bundle, it is left as it is")
    with naming("read", out):
        return _Old(identity(status), _own_files(out))


def _own_files(folder: Path) -> dict[str, tuple[int, ...]]:
    """The files of a bundle's folder, if all of them are those that its guard.toml lists."""
    names = sorted(os.listdir(folder))
    if not names:
        return {}
    if MANIFEST not in names:
        raise ExportError(f"{folder} is not a bundle, it is left as it is: no {MANIFEST}")
    files = {MANIFEST: _fingerprint(folder / MANIFEST)}
    listed = _listed(folder / MANIFEST)
    for name in names:
        path = folder / name
        if name in files:
            continue
        if name not in listed:
            raise ExportError(f"{path} is not one of the bundle's files in {MANIFEST}; {folder} is left as it is")
        files[name] = _fingerprint(path)
        if _recorded(path) != listed[name]:
            raise ExportError(f"{path} is not as {MANIFEST} lists it; {folder} is left as it is")
    return files


def _listed(manifest: Path) -> dict[str, Any]:
    """The digests in guard.toml, by file."""
    try:
        document = tomllib.loads(read_bytes(manifest, limits.MANIFEST_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{manifest}: not valid TOML, its folder is left as it is: {shown(error)}") from error
    files = document.get("files")
    if not str(document.get("exporter")).startswith(_EXPORTER) or not isinstance(files, dict):
        raise ExportError(f"{manifest}: not written by qwenguard-export, its folder is left as it is")
    return {name: entry.get("sha256") if isinstance(entry, dict) else None for name, entry in files.items()}


def _recorded(path: Path) -> str:
    with open_regular(path) as file, naming("read", path):
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _fingerprint(path: Path) -> tuple[int, ...]:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ExportError(f"{path} is not a regular file; {path.parent} is left as it is")
    return (*identity(status), status.st_size, status.st_mtime_ns)


def _publish(partial: Path, out: Path, own: tuple[int, int], old: _Old | None) -> None:
    _check_staged(partial, own)
    _sync_folder(partial)
    if old is None:
        try:
            _move(partial, out)
        except OSError as error:
            if os.path.lexists(out):
                raise ExportError(f"{out} appeared during the export, it is left as it is") from error
            raise
    else:
        changed = ExportError(f"{out} was changed during the export, it is left as it is")
        if not _is_unchanged(out, old):
            raise changed
        _exchange(partial, out)
        # What changed at the last moment comes back to its place.
        if not _is_unchanged(partial, old):
            _exchange(partial, out)
            raise changed
    _sync_folder(out.parent)


def _check_staged(partial: Path, own: tuple[int, int]) -> None:
    if identity(os.lstat(partial)) != own:
        raise ExportError(f"{partial} was replaced during the export")
    created = created_in(partial)
    for name in sorted({*os.listdir(partial), *created}):
        path = partial / name
        if name not in created or not os.path.lexists(path) or identity(os.lstat(path)) != created[name]:
            raise ExportError(f"{path} was changed by someone else during the export, it is left as it is")


def _is_unchanged(folder: Path, old: _Old) -> bool:
    try:
        found = {name: _fingerprint(folder / name) for name in os.listdir(folder)}
        return identity(os.lstat(folder)) == old.identity and found == old.files
    except (OSError, ExportError):
        return False


def _remove(folder: Path, owner: tuple[int, int], files: dict[str, tuple[int, ...]]) -> bool:
    """Removes a folder if it is the one meant, and those of its files that are; False if something is left of it."""
    try:
        if identity(os.lstat(folder)) != owner:
            return True
        for name, meant in files.items():
            with suppress(FileNotFoundError):
                status = os.lstat(folder / name)
                if (*identity(status), status.st_size, status.st_mtime_ns)[: len(meant)] == meant:
                    os.unlink(folder / name)
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _move(source: Path, target: Path) -> None:
    """Renames to where nothing is. Plain rename() would take the place of an empty folder."""
    if _rename(source, target, _NEW):
        return
    if os.name != "posix":
        os.rename(source, target)
        return
    # The empty folder whose place is taken is then our own; with something in it the renaming fails.
    target.mkdir()
    claimed = identity(os.lstat(target))
    try:
        os.rename(source, target)
    except BaseException:
        _remove(target, claimed, {})
        raise


def _exchange(first: Path, second: Path) -> None:
    """Swaps two folders: at once where the system can, else with a moment in which `second` is not there."""
    if _rename(first, second, _EXCHANGE):
        return
    aside = second.with_name(f"{second.name}.replaced-{secrets.token_hex(4)}")
    try:
        _move(second, aside)
        _move(first, second)
    except BaseException:
        if os.path.lexists(aside) and not os.path.lexists(second):
            _move(aside, second)
        raise
    _move(aside, first)


def _rename(source: Path, target: Path, flags: dict[str, int]) -> bool:
    """Renames with a flag; False where system or file system do not know it."""
    flag = flags.get(sys.platform)
    if flag is None:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(source), os.fsencode(target)
    if sys.platform == "darwin":
        function, arguments = getattr(library, "renamex_np", None), (*names, flag)
    else:
        function, arguments = getattr(library, "renameat2", None), (_AT_FDCWD, names[0], _AT_FDCWD, names[1], flag)
    if function is None:
        return False
    if function(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(target))


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system lets us open it."""
    if os.name != "posix":
        return
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
