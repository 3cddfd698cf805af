from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.storage.errors import MissingFileError, StorageError
from siliconflow_provider.storage.object_storage import open_for_reading, storage_path
from siliconflow_provider.storage.sources import names_file, source_files

NAMES = [
    "b.jsonl",
    "a.jsonl",
    "dt=2026-01-02/part-0.parquet",
    "dt=2026-01-01/part-1.parquet",
    "dt=2026-01-01/part-0.parquet",
    "_SUCCESS",
    ".a.jsonl.crc",
    "_siliconflow/job.json",
    "odd [1]?.jsonl",
]


@pytest.fixture(params=["local", "object storage"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, object_store: str) -> ObjectStoragePath:
    """A directory with these files."""
    base = storage_path(tmp_path / "in" if request.param == "local" else f"{object_store}/{tmp_path.name}/in")
    for name in NAMES:
        path = base / name
        path.fs.makedirs(path.parent.path, exist_ok=True)
        path.fs.pipe_file(path.path, b"x")
    return base


@pytest.fixture
def found(folder: ObjectStoragePath) -> Callable[[str], list[str]]:
    """Lists the files of a path below the directory, as names below it."""

    def list_files(name: str) -> list[str]:
        path = storage_path(f"{folder}/{name}" if name else str(folder))
        files = source_files(path)
        assert all(file.fs.isfile(file.path) for file in files)
        return [str(file).removeprefix(str(folder)).lstrip("/") for file in files]

    return list_files


def test_a_file_is_itself(found: Callable[[str], list[str]]) -> None:
    assert found("b.jsonl") == ["b.jsonl"]


def test_a_missing_file_is_left_to_who_reads_it(folder: ObjectStoragePath) -> None:
    path = folder / "no.jsonl"
    assert source_files(path) == [path]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_directory_has_the_visible_files_at_every_depth(folder: ObjectStoragePath, end: str) -> None:
    files = source_files(storage_path(f"{folder}{end}"))
    assert [str(file).rpartition("/in/")[2] for file in files] == [
        "a.jsonl",
        "b.jsonl",
        "dt=2026-01-01/part-0.parquet",
        "dt=2026-01-01/part-1.parquet",
        "dt=2026-01-02/part-0.parquet",
        "odd [1]?.jsonl",
    ]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jsonl", ["a.jsonl", "b.jsonl", "odd [1]?.jsonl"]),
        ("odd [1]?*", ["odd [1]?.jsonl"]),
        ("dt=*/part-0.parquet", ["dt=2026-01-01/part-0.parquet", "dt=2026-01-02/part-0.parquet"]),
        ("dt=2026-01-01/*", ["dt=2026-01-01/part-0.parquet", "dt=2026-01-01/part-1.parquet"]),
        ("**/part-1.parquet", ["dt=2026-01-01/part-1.parquet"]),
    ],
)
def test_a_pattern_has_the_files_that_it_matches(
    found: Callable[[str], list[str]], pattern: str, names: list[str]
) -> None:
    assert found(pattern) == names


def test_nothing_that_matches_is_an_error(folder: ObjectStoragePath, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (folder / "*.csv", folder / "_siliconflow*", storage_path(tmp_path / "empty")):
        with pytest.raises(
            MissingFileError, match=r"cannot read input_path .*: no file matches it; nothing was submit"
        ):
            source_files(path)


@pytest.mark.parametrize(
    ("path", "file", "is_named"),
    [
        ("in", "in/results.jsonl", True),
        ("in", "in/run/results.jsonl", True),
        ("in", "out/results.jsonl", False),
        ("in/b.jsonl", "in/results.jsonl", False),
        ("in/*.jsonl", "in/results.jsonl", True),
        ("in/*.jsonl", "in/run/results.jsonl", False),
        ("in/**/*.jsonl", "in/results.jsonl", True),
        ("in/**/*.jsonl", "in/run/1/results.jsonl", True),
        ("in/*/*.jsonl", "in/run/results.jsonl", True),
        ("in/*.csv", "in/results.jsonl", False),
    ],
)
def test_a_file_that_does_not_exist_is_told_too(
    folder: ObjectStoragePath, path: str, file: str, is_named: bool
) -> None:
    place = str(folder).removesuffix("/in")
    assert names_file(storage_path(f"{place}/{path}"), storage_path(f"{place}/{file}")) is is_named


@pytest.mark.parametrize("name", ["", "/*.jsonl", "/pipe.jsonl"])
def test_a_pipe_is_an_error(tmp_path: Path, name: str) -> None:
    """Opening it would wait forever for somebody who writes to it."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (file,) = source_files(storage_path(f"{tmp_path}{name}"))
    with pytest.raises(StorageError, match=r"cannot read input_path file://\S+/pipe.jsonl: it is not a regular file"):
        open_for_reading(file)
