from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.job_directory import UnreadableFileError
from siliconflow_provider.storage import workspace
from siliconflow_provider.storage.object_storage import digest_of, storage_path
from siliconflow_provider.storage.publishing import publish
from siliconflow_provider.storage.workspace import Workspace


class Point(msgspec.Struct):
    x: int
    name: str = ""


@pytest.fixture(params=["local", "object store"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, object_store: str) -> ObjectStoragePath:
    """The directory of the published files, which does not exist yet."""
    return (
        storage_path(tmp_path / "out") if request.param == "local" else storage_path(f"{object_store}/{tmp_path.name}")
    )


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.mkdir()
    return path


def store(directory: ObjectStoragePath, name: str, content: bytes) -> None:
    """Publish a file like another attempt."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        publish(Path(file.name), directory / name)


def test_a_file_is_visible_once_published(directory: ObjectStoragePath, local: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files, other = Workspace(directory, local), Workspace(directory, tmp_path / "other")
    with files.create("a") as file:
        file.write(b"one")
    assert other.fetch("a") is None
    files.publish("a")
    path = other.fetch("a")
    assert path is not None
    assert (path.read_bytes(), path.parent) == (b"one", tmp_path / "other")
    assert files.url("a") == str(directory / "a")


def test_a_local_copy_stays_until_discarded(directory: ObjectStoragePath, local: Path) -> None:
    files = Workspace(directory, local)
    store(directory, "a", b"one")
    assert files.fetch("a") == local / "a"
    store(directory, "a", b"two")
    assert files.fetch("a") == local / "a"
    assert (local / "a").read_bytes() == b"one"
    files.discard("a")
    path = files.fetch("a")
    assert path is not None
    assert path.read_bytes() == b"two"


def test_a_missing_file_is_none(directory: ObjectStoragePath, local: Path) -> None:
    files = Workspace(directory, local)
    files.discard("a")
    assert (files.fetch("a"), files.read_json("a", Point), list(local.iterdir())) == (None, None, [])


def test_a_created_file_can_be_read_back(directory: ObjectStoragePath, local: Path) -> None:
    files = Workspace(directory, local)
    for content in (b"longer", b"short"):
        with files.create("a") as file:
            file.write(content)
            file.seek(0)
            assert file.read() == content


def test_the_digest_follows_the_published_file(directory: ObjectStoragePath, local: Path, monkeypatch) -> None:
    files, read = Workspace(directory, local), []
    monkeypatch.setattr(workspace, "digest_of", lambda path: read.append(path) or digest_of(path))
    assert files.digest("a") is None
    for content in (b"one", b"two"):
        store(directory, "a", content)
        assert [files.digest("a") for _ in range(2)] == [hashlib.sha256(content).hexdigest()] * 2
    assert len(read) == 2


def test_json_is_readable_and_can_be_read_back(directory: ObjectStoragePath, local: Path) -> None:
    files = Workspace(directory, local)
    files.publish_json("point.json", Point(7))
    assert directory.fs.cat_file((directory / "point.json").path) == b'{\n  "x": 7,\n  "name": ""\n}'
    files.discard("point.json")
    assert files.read_json("point.json", Point) == Point(7)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"<html>", b'{"x": "7"}', b'{"y": 7}', b"[7]", b'{"x": 7, "name": "\xff"}', b"[" * 100_000]
)
def test_a_file_of_another_type_is_named(local: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "point.json").write_bytes(content)
    files = Workspace(storage_path(tmp_path), local)
    with pytest.raises(UnreadableFileError, match=r"^file:///.*/point\.json cannot be read as Point: .*\nRestore"):
        files.read_json("point.json", Point)


def test_a_too_deeply_nested_file_is_named(local: Path, tmp_path: Path) -> None:
    (tmp_path / "any.json").write_bytes(b'{"x":' * 100_000)
    with pytest.raises(UnreadableFileError, match=r"^file:///.*/any\.json cannot be read as dict: "):
        Workspace(storage_path(tmp_path), local).read_json("any.json", dict)


def test_values_without_json_form_are_not_published(local: Path, tmp_path: Path) -> None:
    value: Any = {"x": object()}
    with pytest.raises(TypeError):
        Workspace(storage_path(tmp_path), local).publish_json("point.json", value)
    assert not (tmp_path / "point.json").exists()
