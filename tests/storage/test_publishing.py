from __future__ import annotations

import errno
import os
import stat
import uuid
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.storage.object_storage import storage_path
from siliconflow_provider.storage.publishing import ABANDONED_AFTER, copy, create_once, publish, writing


def no_link(*_: object, **__: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.fixture(params=["local", "local without hard links", "object store"])
def directory(
    request: pytest.FixtureRequest, tmp_path: Path, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> ObjectStoragePath:
    """The directory of published files."""
    if "without" in request.param:
        monkeypatch.setattr(os, "link", no_link)
    is_local = request.param.startswith("local")
    return storage_path(tmp_path / "out" if is_local else f"{object_store}/{uuid.uuid4().hex}")


def content(path: ObjectStoragePath) -> bytes:
    return bytes(path.fs.cat_file(path.path))


def names(directory: ObjectStoragePath) -> set[str]:
    return {name.rpartition("/")[2] for name in directory.fs.ls(directory.path, detail=False)}


def test_a_file_is_created_once(directory: ObjectStoragePath) -> None:
    for text in (b"first", b"second"):
        create_once(directory / "owner.json", text)
    assert content(directory / "owner.json") == b"first"
    assert names(directory) == {"owner.json"}


def test_a_kill_during_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds also on a disk without hard links."""

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    target = storage_path(tmp_path / "out" / "owner.json")
    monkeypatch.setattr(os, "link", no_link)
    with monkeypatch.context() as dying:
        dying.setattr(os, "fsync", kill)
        with pytest.raises(Killed):
            create_once(target, b"first")
    assert names(directory := target.parent) == set()
    create_once(target, b"second")
    assert (content(target), names(directory)) == (b"second", {"owner.json"})


def test_a_dangling_link_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "owner.json").symlink_to(tmp_path / "nowhere")
    create_once(storage_path(tmp_path / "owner.json"), b"mine")
    assert (tmp_path / "owner.json").is_symlink()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("write", ["publish", "writing", "create_once", "copy"])
@pytest.mark.parametrize("links", [True, False])
def test_a_published_file_is_synced_first(tmp_path: Path, monkeypatch, write: str, links: bool) -> None:
    """Otherwise a power failure could leave an empty file."""
    (tmp_path / "source").write_bytes(b"one")
    target, synced = storage_path(tmp_path / "out" / "a"), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino) or fsync(number))
    if not links:
        monkeypatch.setattr(os, "link", no_link)
    if write == "writing":
        with writing(target, tmp_path / "staged") as file:
            file.write(b"one")
    elif write == "publish":
        publish(tmp_path / "source", target)
    elif write == "copy":
        copy(storage_path(tmp_path / "source"), target)
    else:
        create_once(target, b"one")
    assert (content(target), synced) == (b"one", [Path(target.path).stat().st_ino])


def test_a_disk_without_fsync_is_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    create_once(storage_path(tmp_path / "a"), b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_storage_without_conditional_writes_is_supported(object_store: str, monkeypatch) -> None:
    target = storage_path(f"{object_store}/{uuid.uuid4().hex}/owner.json")
    pipe_file = type(target.fs).pipe_file

    def refuse(self: object, path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise ValueError("A header you provided implies functionality that is not implemented")
        pipe_file(self, path, value)

    monkeypatch.setattr(type(target.fs), "pipe_file", refuse)
    create_once(target, b"first")
    create_once(target, b"second")
    assert content(target) == b"first"


def test_a_file_is_published_only_when_complete(directory: ObjectStoragePath, tmp_path: Path) -> None:
    target, staged = directory / "results.jsonl", tmp_path / "staged"
    for number in range(2):
        with writing(target, staged) as file:
            file.write(b"%d\n" % number)
            assert file.tell() == 2
            assert target.fs.exists(target.path) is (number == 1)
        assert content(target) == b"%d\n" % number
    assert names(directory) == {"results.jsonl"}
    assert not staged.exists()


def test_a_failed_write_leaves_the_previous_file(directory: ObjectStoragePath, tmp_path: Path) -> None:
    target, staged = directory / "results.jsonl", tmp_path / "staged"

    def write(block: bytes, error: Exception | None = None) -> None:
        with writing(target, staged) as file:
            file.write(block)
            if error is not None:
                raise error

    write(b"before")
    with pytest.raises(ValueError, match="mine"):
        write(b"half", ValueError("mine"))
    assert content(target) == b"before"
    assert names(directory) == {"results.jsonl"}
    assert not staged.exists()


def test_a_copy_stays_when_its_source_is_replaced(directory: ObjectStoragePath, tmp_path: Path) -> None:
    for text in (b"one", b"two"):
        (tmp_path / "source").unlink(missing_ok=True)
        (tmp_path / "source").write_bytes(text)
        publish(tmp_path / "source", directory / "a")
        if text == b"one":
            assert copy(directory / "a", directory / "b")
    assert (content(directory / "a"), content(directory / "b")) == (b"two", b"one")
    assert not copy(directory / "nowhere", directory / "c")
    assert names(directory) == {"a", "b"}


def test_on_one_disk_files_are_linked(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"one")
    publish(tmp_path / "source", storage_path(tmp_path / "out" / "a"))
    assert (tmp_path / "out" / "a").samefile(tmp_path / "source")


def test_a_copy_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"one")
    (tmp_path / "source").chmod(0o600)
    copy(storage_path(tmp_path / "source"), storage_path(tmp_path / "out" / "a"))
    assert stat.S_IMODE((tmp_path / "source").stat().st_mode) == 0o600


def test_files_of_killed_attempts_are_removed_later(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.touch()
    out.mkdir()
    now = source.stat().st_mtime
    old, young = (out / f".a.{uuid.uuid4().hex}.part" for _ in range(2))
    others = [out / f".b.{uuid.uuid4().hex}.part", out / ".a.mine.part", out / "a.part"]
    for path in (old, young, *others):
        path.touch()
    for path in (old, *others):
        os.utime(path, (now - ABANDONED_AFTER - 60,) * 2)
    publish(source, storage_path(out / "a"))
    assert set(out.iterdir()) == {out / "a", young, *others}
