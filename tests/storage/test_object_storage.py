from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.storage.errors import StorageError
from siliconflow_provider.storage.object_storage import fetch, open_for_reading, read_chunks, storage_path
from siliconflow_provider.storage.publishing import publish


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "staged"
    path.write_bytes(b"one\ntwo\n")
    return path


@pytest.mark.parametrize(
    "name", ["plain", "with space", "ünïcode", "run__2026-11-23T00:00:00+00:00", "a#b", "50%20off"]
)
def test_local_paths_are_taken_literally(tmp_path: Path, source: Path, name: str) -> None:
    target = storage_path(f"{tmp_path}/{name}") / "results.jsonl"
    publish(source, target)
    assert (tmp_path / name / "results.jsonl").read_bytes() == source.read_bytes()
    with open_for_reading(target) as lines:
        assert list(lines) == [b"one\n", b"two\n"]


def test_a_relative_path_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_path("out/x").path == f"{tmp_path}/out/x"


def test_other_storage_is_written_completely(source: Path, object_store: str) -> None:
    target = ObjectStoragePath(f"{object_store}/out") / "results.jsonl"
    publish(source, target)
    assert target.fs.cat_file(target.path) == source.read_bytes()


def test_a_failed_copy_leaves_no_file(tmp_path: Path, source: Path) -> None:
    target = storage_path(str(tmp_path / "out" / "results.jsonl"))
    publish(source, target)
    source.unlink()
    with pytest.raises(StorageError):
        publish(source, target)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.jsonl"]
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_read_in_chunks_and_decompressed(tmp_path: Path, object_store: str, suffix: str) -> None:
    content = bytes(range(256)) * 3000
    path = tmp_path / f"in.jsonl{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    stored = ObjectStoragePath(f"{object_store}/{path.name}")
    publish(path, stored)
    for source in (storage_path(path), stored):
        pieces = list(read_chunks(source))
        assert b"".join(pieces) == content
        assert len(pieces) > 1


def test_a_reader_keeps_its_opened_file(tmp_path: Path, source: Path) -> None:
    target = storage_path(tmp_path / "out" / "results.jsonl")
    publish(source, target)
    with open_for_reading(target) as lines:
        source.unlink()
        source.write_bytes(b"three\n")
        publish(source, target)
        assert lines.read() == b"one\ntwo\n"
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b"three\n"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.gz"])
def test_files_named_gz_are_decompressed(tmp_path: Path, object_store: str, name: str) -> None:
    content = b"one\r\n\ntwo"
    stored = gzip.compress(content[:4]) + gzip.compress(content[4:]) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(stored)
    publish(tmp_path / name, storage_path(f"{object_store}/{tmp_path.name}/{name}"))
    for path in (tmp_path / name, f"{object_store}/{tmp_path.name}/{name}"):
        assert b"".join(read_chunks(storage_path(path))) == content


@pytest.mark.parametrize(
    "damage", [lambda packed: packed[:-12], lambda packed: b"x" + packed, lambda packed: packed[:20] + b"x" * 20]
)
def test_a_damaged_gz_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "rows.gz").write_bytes(damage(gzip.compress(b"one\n" * 1000)))
    with pytest.raises(ValueError, match=r"rows\.gz cannot be decompressed"):
        list(read_chunks(storage_path(tmp_path / "rows.gz")))


def test_fetch_copies_a_file_or_returns_false(tmp_path: Path, source: Path, object_store: str) -> None:
    stored, missing = (ObjectStoragePath(f"{object_store}/{tmp_path.name}") / name for name in ("a", "b"))
    publish(source, stored)
    for there, absent in ((stored, missing), (storage_path(source), storage_path(tmp_path / "nowhere" / "b"))):
        assert fetch(there, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == source.read_bytes()
        assert not fetch(absent, tmp_path / "absent")
        assert not (tmp_path / "absent").exists()


def test_a_failed_publish_leaves_no_temporary_file(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out" / "results.jsonl").mkdir(parents=True)
    with pytest.raises(OSError, match=r"results\.jsonl"):
        publish(source, storage_path(tmp_path / "out" / "results.jsonl"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.jsonl"]
