"""OpenLineage gets the inputs and outputs of tasks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.common.compat.openlineage.facet import Dataset
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

from siliconflow_provider.lineage import name_of
from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator

MODEL = "deepseek-ai/DeepSeek-V3"


def emitted(operator: Any, directory: Path) -> dict[str, Any]:
    """Return the event that OpenLineage writes for a task that has ended."""
    from airflow.providers.openlineage.extractors.base import DefaultExtractor

    found = DefaultExtractor(operator).extract_on_complete(None)
    file = directory / "events.jsonl"
    client = OpenLineageClient(config={"transport": {"type": "file", "log_file_path": str(file), "append": True}})
    client.emit(
        RunEvent(
            eventTime=datetime(2027, 1, 1, tzinfo=UTC).isoformat(),
            run=Run(str(UUID(int=1))),
            job=Job("tests", "task"),
            eventType=RunState.COMPLETE,
            inputs=found.inputs,
            outputs=found.outputs,
        )
    )
    return json.loads(file.read_text().splitlines()[-1])


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def columns(dataset: dict[str, Any]) -> dict[str, str | None]:
    return {field["name"]: field.get("type") for field in dataset["facets"]["schema"]["fields"]}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/in.jsonl", ("file", "/data/in.jsonl")),
        ("file:///data/in/", ("file", "/data/in")),
        ("s3://bucket/in/rows.csv", ("s3://bucket", "in/rows.csv")),
        ("s3a://conn@bucket/in/", ("s3://bucket", "in")),
        ("gs://bucket/in/2027-*/part-*.parquet", ("gs://bucket", "in")),
        ("s3://bucket/*.csv", ("s3://bucket", "/")),
        ("s3://AKIA:s3cret@bucket/in.jsonl", ("s3://bucket", "in.jsonl")),
        ("S3://AKIA:a*b/s3cret@bucket/in/*.jsonl?sig=s3cret", ("s3://bucket", "in")),
        ("https://h/a/x;X-Amz-Signature=s3cret-s3cret", ("https://h", "a")),
        ("s3://[bucket/x", ("s3://[bucket", "x")),
        ("/data/*/rows.csv", ("file", "/data")),
    ],
)
def test_paths_have_the_names_of_openlineage(path: str, name: tuple[str, str]) -> None:
    assert name_of(path) == name


def test_a_job_names_rows_and_columns(connection: str, run: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,question\na,1 + 1\nb,2 + 1\n")
    source = Dataset("postgres://db:5432", "shop.public.questions")
    job = BatchInferenceOperator(
        task_id="create", model=MODEL, input_path=str(tmp_path / "*.csv"), prompt="{question}", deferrable=False,
        output_path=str(tmp_path / "out"), output_format="parquet", inlets=[source],
    )  # fmt: skip
    run(lambda: job)
    event = emitted(job, tmp_path)
    assert names(event["inputs"]) == [("file", str(tmp_path)), ("postgres://db:5432", "shop.public.questions")]
    (output,) = event["outputs"]
    assert names([output]) == [("file", str(tmp_path / "out" / "results.parquet"))]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert {"id": "string", "question": "string", "status": "string", "round": "integer"}.items() <= columns(
        output
    ).items()


def test_single_steps_name_file_and_results(connection: str, run: Any, sums: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(sums(3))
    upload = UploadFileOperator(task_id="upload", file_path=str(tmp_path / "in.jsonl"))
    file_id = run(lambda: upload)
    event = emitted(upload, tmp_path)
    assert (names(event["inputs"]), event["outputs"]) == ([("file", str(tmp_path / "in.jsonl"))], [])
    batch_id = run(lambda: CreateBatchOperator(task_id="create", input_file_id=file_id))
    download = DownloadResultsOperator(task_id="download", batch_id=batch_id, output_path=str(tmp_path / "out"))
    run(lambda: download)
    event = emitted(download, tmp_path)
    assert (event["inputs"], names(event["outputs"])) == ([], [("file", str(tmp_path / "out" / "results.jsonl"))])
    assert columns(event["outputs"][0])["custom_id"] == "string"
    assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3


def test_a_task_that_fails_early_names_its_input(connection: str, tmp_path: Path) -> None:
    job = BatchInferenceOperator(
        task_id="create", model=MODEL, input_path="s3://bucket/in", output_path=str(tmp_path / "out"), prompt="{q}"
    )
    event = emitted(job, tmp_path)
    assert (names(event["inputs"]), event["outputs"]) == ([("s3://bucket", "in")], [])
