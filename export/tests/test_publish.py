"""Nothing is deleted that the exporter did not write, whatever the flags and whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import TEMPLATE, Spec, write_tokenizer

from qwenguard_export import publish
from qwenguard_export.bundle import write_file
from qwenguard_export.cli import main
from qwenguard_export.errors import ExportError
from qwenguard_export.publish import MANIFEST, staging

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files")

Meanwhile = Callable[[Path, Path], object]


def write_bundle(folder: Path, weights: bytes = b"weights", names: tuple[str, ...] = ("weights.bin",)) -> None:
    """What `export` writes, without a model."""
    files = ""
    for name in names:
        record = write_file(folder / name, weights)
        files += f'[files."{name}"]\nbytes = {record.bytes}\nsha256 = "{record.sha256}"\n'
    write_file(folder / MANIFEST, f'format = 1\nexporter = "qwenguard-export 0.1.0"\n{files}'.encode())


def publish_bundle(out: Path, weights: bytes = b"weights", force: bool = False, meanwhile: Meanwhile | None = None):
    with staging(out, force) as folder:
        write_bundle(folder, weights)
        if meanwhile:
            meanwhile(out, folder)


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Every file below a folder with its content, links with their target, folders as None."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.fixture(params=["renameat2", "rename"])
def renaming(request, monkeypatch):
    """Also as it is done where the system has nothing but plain rename()."""
    if request.param == "rename":
        monkeypatch.setattr(publish, "_rename", lambda *_: False)


@pytest.fixture
def bundle(tmp_path) -> Path:
    publish_bundle(tmp_path / "bundle", b"old")
    return tmp_path / "bundle"


def test_new(tmp_path, renaming):
    publish_bundle(tmp_path / "bundle")
    assert set(tree(tmp_path)) == {"bundle", "bundle/guard.toml", "bundle/weights.bin"}


def test_force_replaces_a_bundle(bundle, tmp_path, renaming):
    publish_bundle(bundle, b"new", force=True)
    assert set(tree(tmp_path)) == {"bundle", "bundle/guard.toml", "bundle/weights.bin"}
    assert (bundle / "weights.bin").read_bytes() == b"new"


def test_who_has_the_old_bundle_open_keeps_it(bundle, renaming):
    with open(bundle / "weights.bin", "rb") as old:
        publish_bundle(bundle, b"new", force=True)
        assert old.read() == b"old"


def test_force_replaces_an_empty_folder_and_what_is_left_of_a_bundle(bundle, tmp_path, renaming):
    (bundle / "weights.bin").unlink()
    publish_bundle(bundle, b"new", force=True)
    (tmp_path / "empty").mkdir()
    publish_bundle(tmp_path / "empty", b"new", force=True)
    assert set(tree(bundle)) == set(tree(tmp_path / "empty")) == {"guard.toml", "weights.bin"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a moment without a bundle")
def test_there_is_always_a_bundle(bundle):
    done, missing = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            missing.extend([1] * (not (bundle / MANIFEST).is_file()))

    watcher = threading.Thread(target=look)
    watcher.start()
    for count in range(20):
        publish_bundle(bundle, str(count).encode(), force=True)
    done.set()
    watcher.join()
    assert not missing


def put(name: str, content: str = "precious") -> Meanwhile:
    def create(out: Path, _: Path) -> None:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content)

    return create


@pytest.mark.parametrize(
    "foreign",
    [
        put("thesis.txt"),
        put("sub/thesis.txt"),
        put(".hidden"),
        put("weights.bin", "edited"),
        put("guard.toml", "[files]"),
        put("guard.toml", "not TOML ["),
        put("guard.toml", 'exporter = "another program"\n[files."weights.bin"]\nbytes = 3'),
        lambda out, _: (out / "guard.toml").unlink(),
        lambda out, _: (out / "sub").mkdir(),
        lambda out, _: ((out / "weights.bin").unlink(), (out / "weights.bin").mkdir()),
        lambda out, _: ((out / "weights.bin").rename(out.parent / "w"), (out / "weights.bin").symlink_to("../w")),
    ],
)
def test_force_leaves_what_is_not_only_a_bundle(bundle, tmp_path, foreign):
    foreign(bundle, bundle)
    before = tree(tmp_path)
    with pytest.raises(ExportError, match="left as it is"):
        publish_bundle(bundle, b"new", force=True)
    assert tree(tmp_path) == before


def test_a_manifest_that_lists_files_elsewhere(bundle, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with open(bundle / MANIFEST, "a") as file:
        file.write('[files."../thesis.txt"]\n')
    publish_bundle(bundle, b"new", force=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@posix
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.parametrize("name", ["guard.toml", "weights.bin"])
def test_force_leaves_what_is_no_file(bundle, make, name):
    (bundle / name).unlink()
    make(bundle / name)
    with pytest.raises(ExportError, match="not a regular file"):
        publish_bundle(bundle, b"new", force=True)
    assert os.path.lexists(bundle / name)


@posix
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("target", ["bundle", "nowhere"])
def test_a_link_is_left_as_it_is(bundle, tmp_path, force, target):
    link = tmp_path / "link"
    link.symlink_to(target)
    before = tree(tmp_path)
    with pytest.raises(ExportError, match="symbolic link" if force else "already exists"):
        publish_bundle(link, b"new", force=force)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
def test_a_file_is_left_as_it_is(tmp_path, force):
    (tmp_path / "bundle").write_text("precious")
    with pytest.raises(ExportError, match="no folder" if force else "already exists"):
        publish_bundle(tmp_path / "bundle", force=force)
    assert (tmp_path / "bundle").read_text() == "precious"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "appear",
    [
        lambda out, _: out.mkdir(),
        put("precious.txt"),
        lambda out, _: out.write_text("precious"),
        lambda out, _: out.symlink_to("nowhere"),
        lambda out, _: publish_bundle(out, b"another"),
    ],
    ids=["empty", "folder", "file", "link", "bundle"],
)
def test_what_appears_at_out_stays(tmp_path, renaming, appear, force):
    appeared: dict[str, object] = {}

    def meanwhile(out: Path, folder: Path) -> None:
        appear(out, folder)
        appeared.update({name: value for name, value in tree(tmp_path).items() if ".partial-" not in name})

    with pytest.raises(ExportError, match="appeared during the export, it is left as it is"):
        publish_bundle(tmp_path / "bundle", force=force, meanwhile=meanwhile)
    assert tree(tmp_path) == appeared


@pytest.mark.parametrize(
    "change",
    [
        put("thesis.txt"),
        put("weights.bin", "edited"),
        put("guard.toml", "edited"),
        lambda out, _: (out / "weights.bin").unlink(),
        lambda out, _: (shutil.rmtree(out), out.write_text("precious")),
        lambda out, _: (out.rename(out.with_name("moved")), publish_bundle(out, b"another")),
        lambda out, _: out.rename(out.with_name("moved")),
    ],
    ids=["new file", "edited", "edited manifest", "deleted", "file", "another bundle", "gone"],
)
def test_what_changes_at_out_stays(bundle, tmp_path, renaming, change):
    changed: dict[str, object] = {}

    def meanwhile(out: Path, folder: Path) -> None:
        change(out, folder)
        changed.update({name: value for name, value in tree(tmp_path).items() if ".partial-" not in name})

    with pytest.raises(ExportError, match="was changed during the export, it is left as it is"):
        publish_bundle(bundle, b"new", force=True, meanwhile=meanwhile)
    assert tree(tmp_path) == changed


def test_what_changes_at_the_last_moment_stays(bundle, tmp_path, renaming, monkeypatch):
    """Between the last look and the renaming: what came along is brought back."""
    exchange = publish._exchange

    def late(first: Path, second: Path) -> None:
        if not (bundle / "thesis.txt").exists() and not list(tmp_path.glob("*.partial-*/thesis.txt")):
            (bundle / "thesis.txt").write_text("precious")
        exchange(first, second)

    monkeypatch.setattr(publish, "_exchange", late)
    with pytest.raises(ExportError, match="was changed during the export"):
        publish_bundle(bundle, b"new", force=True)
    assert set(tree(tmp_path)) == {"bundle", "bundle/guard.toml", "bundle/thesis.txt", "bundle/weights.bin"}
    assert (bundle / "weights.bin").read_bytes() == b"old"


def test_what_comes_into_the_old_bundle_after_that_is_kept(bundle, tmp_path, monkeypatch, capsys):
    remove = publish._remove

    def late(folder: Path, owner: object, files: dict) -> bool:
        if (folder / "weights.bin").exists() and (folder / "weights.bin").read_bytes() == b"old":
            (folder / "thesis.txt").write_text("precious")
        return remove(folder, owner, files)

    monkeypatch.setattr(publish, "_remove", late)
    publish_bundle(bundle, b"new", force=True)
    (kept,) = tmp_path.glob("bundle.partial-*")
    assert tree(kept) == {"thesis.txt": b"precious"}
    assert f"{str(kept)!r} is kept" in capsys.readouterr().err
    assert (bundle / "weights.bin").read_bytes() == b"new"


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    "foreign",
    [
        lambda _, folder: (folder / "thesis.txt").write_text("precious"),
        lambda _, folder: ((folder / "weights.bin").unlink(), (folder / "weights.bin").write_text("precious")),
        lambda _, folder: (folder.rename(folder.with_name("moved")), folder.mkdir(), put("a.txt")(folder, folder)),
    ],
    ids=["new file", "exchanged file", "exchanged folder"],
)
def test_what_comes_into_the_staging_folder_stays(tmp_path, foreign, fails):
    def meanwhile(out: Path, folder: Path) -> None:
        foreign(out, folder)
        if fails:
            raise ExportError("left as it is was never reached: during the export something else failed")

    with pytest.raises(ExportError, match="during the export"):
        publish_bundle(tmp_path / "bundle", meanwhile=meanwhile)
    assert not (tmp_path / "bundle").exists()
    assert "precious" in {value.decode() for value in tree(tmp_path).values() if isinstance(value, bytes)}


def test_a_file_that_was_there_first_is_not_written_to(tmp_path):
    with pytest.raises(ExportError, match="weights.bin: File exists"), staging(tmp_path / "bundle", False) as folder:
        (folder / "weights.bin").write_text("precious")
        write_bundle(folder)
    (kept,) = tmp_path.glob("bundle.partial-*")
    assert tree(kept) == {"weights.bin": b"precious"}


@pytest.mark.parametrize("place", ["checkpoint", ".", "checkpoint/..", "checkpoint/config.json"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_out_holds_the_checkpoint(tmp_path, monkeypatch, capsys, place, force):
    monkeypatch.chdir(tmp_path)
    Spec().write(tmp_path / "checkpoint")
    (tmp_path / MANIFEST).write_text('exporter = "qwenguard-export 0.1.0"\n[files]\n')
    before = tree(tmp_path)
    assert main(["checkpoint", place, "--no-parity", *force]) == 1
    assert "left as it is" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_a_checkpoint_that_is_listed_as_a_bundle_is_left_as_it_is(tmp_path, capsys):
    """All its files are those of its guard.toml, with their digests."""
    checkpoint = Spec().write(tmp_path / "checkpoint")
    contents = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    shutil.rmtree(checkpoint)
    with staging(checkpoint, False) as folder:
        files = ""
        for name, content in contents.items():
            files += f'[files."{name}"]\nsha256 = "{write_file(folder / name, content).sha256}"\n'
        write_file(folder / MANIFEST, f'exporter = "qwenguard-export 0.1.0"\n{files}'.encode())
    before = tree(tmp_path)
    assert main([str(checkpoint), str(checkpoint), "--no-parity", "--force"]) == 1
    assert "is to be exported; it is left as it is" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_out_inside_the_checkpoint(tmp_path):
    checkpoint = Spec().write(tmp_path / "checkpoint")
    before = tree(checkpoint)
    for force in ([], ["--force"]):
        assert main([str(checkpoint), str(checkpoint / "bundle"), "--no-parity", *force]) == 0
    assert {name: value for name, value in tree(checkpoint).items() if not name.startswith("bundle")} == before


@posix
def test_two_points_after_a_link_are_what_the_system_says(tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away")
    publish_bundle(tmp_path / "link" / ".." / "bundle")
    assert (tmp_path / "far" / "bundle" / MANIFEST).is_file()


@posix
def test_many_exports_to_one_place_at_once(tmp_path):
    """All but one fail, and that one's bundle is whole."""
    count, failures = 8, []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            publish_bundle(tmp_path / "bundle", bytes([number]) * 10, meanwhile=lambda *_: barrier.wait())
        except ExportError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == count - 1
    assert all("appeared during the export" in failure for failure in failures)
    assert set(tree(tmp_path)) == {"bundle", "bundle/guard.toml", "bundle/weights.bin"}
    publish._own_files(tmp_path / "bundle")


@posix
def test_an_export_that_was_killed_does_no_harm(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    write_tokenizer(source)
    (source / "chat_template.jinja").write_text(TEMPLATE)
    publish_bundle(tmp_path / "bundle", b"old")
    before = tree(tmp_path)
    arguments = ["--random", "0.6B", str(tmp_path / "bundle"), "--tokenizer", str(source), "--no-parity", "--force"]
    process = subprocess.Popen([sys.executable, "-m", "qwenguard_export", *arguments], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("bundle.partial-*/weights.bin")):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = tmp_path.glob("bundle.partial-*")
    kept = set(tree(left))
    assert {name: value for name, value in tree(tmp_path).items() if left.name not in name} == before
    publish_bundle(tmp_path / "bundle", b"new", force=True)
    assert (tmp_path / "bundle" / "weights.bin").read_bytes() == b"new"
    assert set(tree(left)) == kept


@pytest.mark.parametrize("at", ["_exchange", "_is_unchanged", "_sync_folder", "_check_staged"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_while_publishing_leaves_a_bundle(bundle, tmp_path, monkeypatch, at, after, renaming):
    function = getattr(publish, at)

    def interrupted(*arguments):
        monkeypatch.setattr(publish, at, function)
        if after:
            function(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, at, interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish_bundle(bundle, b"new", force=True)
    assert set(tree(tmp_path)) == {"bundle", "bundle/guard.toml", "bundle/weights.bin"}
    publish._own_files(bundle)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_between_two_renamings_keeps_the_old_bundle(bundle, tmp_path, monkeypatch, count, after):
    monkeypatch.setattr(publish, "_rename", lambda *_: False)
    move, calls = publish._move, []

    def interrupted(first: Path, second: Path) -> None:
        calls.append(second)
        if len(calls) != count:
            return move(first, second)
        if after:
            move(first, second)
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "_move", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish_bundle(bundle, b"new", force=True)
    found = sorted((path / "weights.bin").read_bytes() for path in tmp_path.iterdir())
    # Once the new one is in its place, the old one may lie beside it.
    assert found == ([b"new", b"old"] if (count, after) == (2, True) else [b"old"])
    publish._own_files(bundle)


@pytest.mark.parametrize("call", ["_move", "_exchange"])
def test_an_error_while_renaming_keeps_the_old_bundle(bundle, tmp_path, monkeypatch, call, capsys):
    def broken(first: Path, second: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(publish, call, broken)
    out = bundle if call == "_exchange" else tmp_path / "other"
    before = tree(tmp_path)
    with pytest.raises(ExportError, match="cannot write .*: Input/output error"):
        publish_bundle(out, b"new", force=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_parent_that_cannot_be_written(tmp_path, monkeypatch, code):
    def mkdir(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(ExportError, match=f"cannot create .*: {os.strerror(code)}"):
        publish_bundle(tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
