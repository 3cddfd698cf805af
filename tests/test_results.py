from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from siliconflow_provider.results import read_results
from siliconflow_provider.storage.object_storage import storage_path
from siliconflow_provider.storage.publishing import publish

ROWS = [
    {"index": 0, "custom_id": "a", "status": "succeeded", "content": "1", "output": {"x": 1}, "input": {"q": "é"}},
    {"index": 1, "custom_id": "b", "status": "failed", "error": {"code": None, "message": "bad"}},
    {"index": None, "custom_id": "c", "status": "unfinished", "a_later_field": [1]},
    {"index": 3, "custom_id": "d", "status": "succeeded", "content": None},
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    return path


def ids(rows: Any) -> str:
    return "".join(row.custom_id for row in rows)


@pytest.mark.parametrize(
    "form",
    [
        lambda path: {"results_path": str(path), "counts": {}},
        lambda path: {"results_path": f"file://{path}"},
        lambda path: path,
        lambda path: str(path),
        lambda path: f"file://{path}",
        lambda path: path.parent,
        lambda path: f"{path.parent}/",
        lambda path: f"file://{path.parent}",
        lambda path: os.path.relpath(path),
        lambda path: os.path.relpath(path.parent),
    ],
)
def test_results_are_found_by_summary_file_or_directory(written: Path, form: Callable[[Path], Any]) -> None:
    assert ids(read_results(form(written))) == "abcd"


def test_file_of_another_name_is_read(written: Path) -> None:
    other = written.rename(written.with_name("yesterday.jsonl"))
    assert ids(read_results(other)) == "abcd"


def test_directory_name_may_have_a_dot(written: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run.2026-11-23"
    directory.mkdir()
    written.rename(directory / "results.jsonl")
    assert ids(read_results(directory)) == "abcd"


def test_results_are_read_from_an_object_store(written: Path, object_store: str, tmp_path: Path) -> None:
    url = f"{object_store}/{tmp_path.name}"
    publish(written, storage_path(f"{url}/results.jsonl"))
    assert ids(read_results(url)) == ids(read_results({"results_path": f"{url}/results.jsonl"})) == "abcd"


def test_row_has_the_written_fields(written: Path) -> None:
    first, second, *_ = read_results(written)
    assert (first.index, first.content, first.output, first.input) == (0, "1", {"x": 1}, {"q": "é"})
    assert second.error is not None
    assert (second.error.code, second.error.message, second.content) == (None, "bad", None)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (None, "abcd"),
        ("succeeded", "ad"),
        (["failed", "unfinished"], "bc"),
        ({"succeeded"}, "ad"),
        (("missing",), ""),
        ([], ""),
    ],
)
def test_rows_are_filtered_by_status(written: Path, status: Any, found: str) -> None:
    assert ids(read_results(written, status=status)) == found


@pytest.mark.parametrize("status", ["success", "", "Succeeded", ["succeeded", "ok"], {"", "failed"}])
def test_unknown_status_is_an_error(written: Path, status: Any) -> None:
    with pytest.raises(ValueError, match=r"status '\w*' does not exist: there are succeeded, failed, .*unfinished$"):
        list(read_results(written, status=status))


def test_missing_results_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_results(tmp_path))


def test_results_are_read_lazily(written: Path) -> None:
    with written.open("a") as file:
        file.write("<broken>\n")
    rows = read_results(written)
    assert ids(next(rows) for _ in ROWS) == "abcd"
    with pytest.raises(msgspec.DecodeError, match="malformed"):
        next(rows)
