"""Whole jobs whose results are a table."""

from __future__ import annotations

import csv
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from airflow.exceptions import AirflowOptionalProviderFeatureException
from pyarrow import parquet
from pydantic import BaseModel

from siliconflow_provider.decorators.inference import siliconflow_batch_task
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import OutputPathError
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.operators import definition
from siliconflow_provider.results import read_results, to_arrow
from siliconflow_provider.storage.workspace import Workspace
from tests.inference_jobs import Infer, Run, sums
from tests.kills import Killed

DAY = 24 * 3600
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("status", pyarrow.int8()),
        ("asked_at", pyarrow.timestamp("us", "Asia/Shanghai")),
        ("price", pyarrow.decimal128(9, 2)),
        ("question", pyarrow.string()),
    ]
)
TABLE = pyarrow.table(
    [["a", "b"], [1, None], [0, 1_000_000], [Decimal("1.10"), None], ["What is 1 + 1?", "What is 2 + 2?"]],
    schema=SCHEMA,
)
PROMPT = {"prompt": "{question}", "id_column": "id"}


class Answer(BaseModel):
    answer: str
    source: str | None = None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("source", ["file", "table"])
def test_input_columns_come_back_in_their_types(infer: Infer, run: Run, out: Path, tmp_path: Path, source: str) -> None:
    given: dict[str, Any] = {"requests": TABLE}
    if source == "file":
        parquet.write_table(TABLE, tmp_path / "questions.parquet")
        given = {"input_path": tmp_path / "questions.parquet"}
    summary = run(lambda: infer(**given, **PROMPT, output_format="parquet"))
    assert summary["results_path"] == f"file://{out}/results.parquet"
    assert {path.name for path in out.iterdir()} == {"results.parquet", "manifest.json", "report.html", "_siliconflow"}
    table = parquet.read_table(out / "results.parquet")
    assert table.select(SCHEMA.names).equals(TABLE)
    assert table["content"].to_pylist() == ["2", "4"]
    assert table["result_status"].to_pylist() == ["succeeded"] * 2


def test_csv_has_the_fields_of_output(infer: Infer, run: Run, out: Path) -> None:
    requests = [{"answer": "mine", "q": "What is 1 + 1?"}]
    run(lambda: infer(requests=requests, prompt="{q}", output_type=Answer, output_format="csv"))
    with (out / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    output = json.loads(row["content"])
    assert (row["answer"], row["q"]) == ("mine", "What is 1 + 1?")
    assert (row["output_answer"], row["source"]) == (output["answer"], output.get("source") or "")


def test_results_in_an_object_store(infer: Infer, run: Run, object_store: str) -> None:
    url = f"{object_store}/{uuid.uuid4().hex}"
    summary = run(lambda: infer(requests=TABLE, **PROMPT, output_format="parquet", output_path=url))
    assert summary["results_path"].endswith(f"{url[-32:]}/results.parquet")
    assert to_arrow(summary).select(SCHEMA.names).equals(TABLE)
    assert [row.content for row in read_results(url)] == ["2", "4"]


@pytest.mark.parametrize("formats", [("jsonl", "parquet", "csv"), ("csv", "jsonl", "parquet")])
@pytest.mark.parametrize("days", [0, 31])
def test_another_format_buys_nothing(
    infer: Infer, run: Run, out: Path, control: Control, clock: Any, clear: Any, formats: list[str], days: int
) -> None:
    """Even when the service has deleted the answers."""
    for output_format in formats:
        summary = run(lambda output_format=output_format: infer(requests=sums(3), output_format=output_format))
        assert summary["results_path"].endswith(f"results.{output_format}")
        assert summary["counts"] == {"succeeded": 3}
        assert [row.content for row in read_results(out)] == ["1", "2", "3"]
        clock.advance(days * DAY)
        clear()
    assert control.batches_created() == 1


def test_answers_of_a_changed_job_are_kept(
    infer: Infer, run: Run, out: Path, control: Control, clear: Any, clock: Any
) -> None:
    run(lambda: infer(requests=sums(3), output_format="parquet"))
    first = json.loads((out / "manifest.json").read_text())["job_id"]
    clock.advance(31 * DAY)
    clear()
    run(lambda: infer(requests=sums(4), completion_window="48h", output_format="csv"))
    assert control.executions().distinct == 4
    kept = out / "_siliconflow" / "replaced" / first
    assert [row.content for row in read_results(kept / "results.jsonl")] == ["1", "2", "3"]
    assert to_arrow(kept)["content"].to_pylist() == ["1", "2", "3"]
    assert [row.content for row in read_results(out)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize(("call", "nth"), [("publish", 1), ("create_json_once", 1), ("create_json_once", 2)])
def test_crash_while_published_loses_nothing(
    infer: Infer, run: Run, out: Path, control: Control, kill: Any, call: str, nth: int, after: bool
) -> None:
    """Killed before or after the rows, the table and the manifest."""
    kill(JobRunner, "submit", after=True)
    with pytest.raises(Killed):
        run(lambda: infer(requests=sums(3), output_format="parquet"))
    kill(Workspace, call, nth=nth, after=after)
    with pytest.raises(Killed):
        run(lambda: infer(requests=sums(3), output_format="parquet"))
    assert run(lambda: infer(requests=sums(3), output_format="parquet"))["counts"] == {"succeeded": 3}
    assert to_arrow(out)["content"].to_pylist() == ["1", "2", "3"]
    assert control.batches_created() == 1


def test_missing_rows_of_a_table_stop_the_job(
    infer: Infer, run: Run, out: Path, control: Control, clock: Any, clear: Any
) -> None:
    """The table has answers that nothing else has."""
    run(lambda: infer(requests=sums(3), output_format="parquet"))
    before = (out / "results.parquet").read_bytes()
    (out / "_siliconflow" / "results.jsonl").unlink()
    clock.advance(31 * DAY)
    for changed in ({}, {"completion_window": "48h"}):
        clear()
        with pytest.raises(RequestsLostError, match=r"_siliconflow/results\.jsonl is missing; restore it"):
            run(lambda changed=changed: infer(requests=sums(3), output_format="parquet", **changed))
    assert (out / "results.parquet").read_bytes() == before
    assert control.batches_created() == 1


@pytest.mark.parametrize("output_format", ["parquet", "csv"])
def test_files_of_others_are_not_overwritten(
    infer: Infer, run: Run, out: Path, control: Control, output_format: str
) -> None:
    name = f"results.{output_format}"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    with pytest.raises(OutputPathError, match=rf"{name} exists, but this task .* did not write it"):
        run(lambda: infer(requests=sums(1), output_format=output_format))
    with pytest.raises(OutputPathError, match=rf"would be overwritten: it is the {name} that this task writes"):
        run(lambda: infer(input_path=out / name, output_format=output_format))
    assert (out / name).read_bytes() == b"mine"
    assert control.batches_created() == 0


def test_cleared_job_overwrites_no_other_format(
    infer: Infer, run: Run, out: Path, control: Control, clear: Any
) -> None:
    run(lambda: infer(requests=sums(1)))
    (out / "results.csv").write_bytes(b"mine")
    clear()
    with pytest.raises(OutputPathError, match=r"results\.csv exists, but this task"):
        run(lambda: infer(requests=sums(1), output_format="csv"))
    assert (out / "results.csv").read_bytes() == b"mine"


def test_missing_pyarrow_is_an_early_error(
    infer: Infer, run: Run, out: Path, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition, "find_spec", lambda name: None)
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"pip install .*\[arrow\]'; nothing was subm"):
        run(lambda: infer(requests=sums(1), output_format="parquet"))
    assert (control.batches_created(), out.exists()) == (0, False)
    run(lambda: infer(requests=sums(1), output_format="csv"))


@pytest.mark.parametrize("value", ["excel", "PARQUET", None, "", "{{ params.format }}"])
def test_unknown_format_is_an_error_at_once(infer: Infer, value: Any) -> None:
    with pytest.raises(ValueError, match=r"output_format is .*: give one of 'jsonl', 'parquet', 'csv'"):
        infer(requests=sums(1), output_format=value)


def test_decorated_function_takes_the_format(connection: str, run: Run, out: Path) -> None:
    @siliconflow_batch_task(model="m", output_path=str(out), output_format="csv", deferrable=False)
    def ask() -> list[str]:
        return sums(1)

    run(lambda: ask().operator)
    assert (out / "results.csv").exists()


def test_job_id_ignores_an_unset_schema() -> None:
    """Jobs of earlier versions keep their id, and so their published results."""
    job = Job("k", "t", {}, 1, True, Round(1, [], 0, 0))
    assert job.id == "178c4f9f6249fee5"
