from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas
import pyarrow
import pytest

from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.publication import EarlierResults, publish_results
from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.outputs.result_store import ResultStore
from siliconflow_provider.outputs.result_table import OutputFormat
from siliconflow_provider.results import read_results, to_arrow, to_batches, to_pandas
from siliconflow_provider.storage.object_storage import storage_path
from siliconflow_provider.storage.publishing import publish
from siliconflow_provider.storage.workspace import Workspace

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
    with pytest.raises(ValueError, match=r"status '\w*' does not exist: there are succeeded, failed, .*rejected$"):
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


class TestTables:
    """Results of a job in each format, read as a table."""

    SCHEMA = pyarrow.schema(
        [("status", pyarrow.string()), ("at", pyarrow.timestamp("ms", "UTC")), ("n", pyarrow.int8())]
    )
    INPUTS = ('{"status":"new","at":"2026-11-26T00:00:00+00:00","n":7}', '{"status":null,"at":null,"n":null}')

    @pytest.fixture(params=["jsonl", "parquet", "csv"])
    def job(self, request: pytest.FixtureRequest, workspace: Callable[[], Workspace], tmp_path: Path) -> Any:
        """Publish one good row and one failed one; return the manifest."""
        job = Job("key", "t", {}, 2, True, Round(1, [], 0, 0), input_schema=self.SCHEMA.serialize().to_pybytes())
        files = workspace()
        (tmp_path / "out" / "_siliconflow").mkdir(parents=True)
        (tmp_path / "out" / "_siliconflow" / "rows.jsonl").write_text("\n".join(self.INPUTS) + "\n")
        with (tmp_path / "collected").open("w+b") as file:
            answers = ResultStore(2, file)
            answers.add_earlier_row(ResultRow(index=0, custom_id="a", status="succeeded", output={"x": 1}))
            answers.add_earlier_row(ResultRow(index=1, custom_id="b", status="failed", error=AnswerError("c", "m")))
            output = OutputFormat(request.param, {"x": "integer", "y": "number"})
            return publish_results(files, job, answers, [], EarlierResults(), complete=True, output_format=output)

    def test_each_format_gives_the_same_rows_and_table(self, job: dict[str, Any], tmp_path: Path) -> None:
        path = job["paths"]["results"]
        assert path.endswith(job["output_format"])
        for form in ({"results_path": path}, path, tmp_path / "out"):
            assert [(row.custom_id, row.input["n"], row.error and row.error.code) for row in read_results(form)] == [
                ("a", 7, None), ("b", None, "c"),
            ]  # fmt: skip
            table = to_arrow(form)
            assert table.select(["status", "at", "n"]).schema.equals(self.SCHEMA)
            assert table.select(["n", "x", "y", "result_status", "error_code"]).to_pylist() == [
                {"n": 7, "x": 1, "y": None, "result_status": "succeeded", "error_code": None},
                {"n": None, "x": None, "y": None, "result_status": "failed", "error_code": "c"},
            ]
            assert to_arrow(form, status="failed")["custom_id"].to_pylist() == ["b"]

    def test_pandas_keeps_integers_whole(self, job: dict[str, Any]) -> None:
        frame = to_pandas(job["paths"]["results"])
        assert frame["n"].to_list() == [7, pandas.NA]
        assert (str(frame["n"].dtype), str(frame["at"].dtype)) == ("Int8", "datetime64[ms, UTC]")

    def test_table_stays_when_internal_files_are_deleted(self, job: dict[str, Any], tmp_path: Path) -> None:
        shutil.rmtree(tmp_path / "out" / "_siliconflow")
        if job["output_format"] != "csv":
            assert to_arrow(tmp_path / "out")["n"].type == pyarrow.int8()
        if job["output_format"] != "jsonl":
            with pytest.raises(FileNotFoundError, match=r"_siliconflow/results\.jsonl is missing: .*as a table"):
                list(read_results(tmp_path / "out"))


def test_results_without_manifest_become_a_table(written: Path) -> None:
    table = to_arrow(written.parent, status=["succeeded", "failed"])
    assert table.select(["custom_id", "q", "x"]).to_pylist() == [
        {"custom_id": "a", "q": "é", "x": 1},
        {"custom_id": "b", "q": None, "x": None},
        {"custom_id": "d", "q": None, "x": None},
    ]


def test_table_without_pyarrow_names_the_extra(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siliconflow_provider.results.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'airflow-provider-siliconflow\[arrow\]'"):
        to_batches(written)
