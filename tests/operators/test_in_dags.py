"""Operators in DAG files: mapped, templated, in task groups, without XComs, with default arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.server import Emulator

HEAD = """
import pendulum
from airflow.providers.common.compat.sdk import TaskGroup, dag

from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.sensors.batches import BatchSensor

DIRECTORY = {directory!r}

@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1), {arguments})
def {name}():
"""


@pytest.fixture
def run_dag(
    dags_folder: Path,
    load_dag_file: Callable[[str], ModuleType],
    connection: str,
    sums: Callable[[int], bytes],
    tmp_path: Path,
) -> Callable[..., Path]:
    """Run a DAG of these lines with request files `a.jsonl`, `b.jsonl` (equal) and `c.jsonl`; return the directory."""
    for name, number in (("a", 3), ("b", 3), ("c", 5)):
        (tmp_path / f"{name}.jsonl").write_bytes(sums(number))

    def run(name: str, lines: str, arguments: str = "") -> Path:
        head = HEAD.format(name=name, directory=str(tmp_path), arguments=arguments)
        (dags_folder / f"{name}.py").write_text(f"{head}{lines}\n\n{name}()\n")
        module = load_dag_file(f"{name}.py")
        assert str(getattr(module, name)().test().state).endswith("success")
        return tmp_path

    return run


def custom_ids(path: Path) -> set[str]:
    return {json.loads(line)["custom_id"] for line in path.read_text().splitlines()}


def test_mapped_tasks_with_equal_input_have_own_batches(
    run_dag: Callable[..., Path], client: SiliconFlowClient
) -> None:
    directory = run_dag(
        "mapped",
        """
    paths = [f"{DIRECTORY}/{name}.jsonl" for name in "abc"]
    upload = UploadFileOperator.partial(task_id="upload").expand(file_path=paths)
    create = CreateBatchOperator.partial(task_id="create").expand(input_file_id=upload.output)
    wait = BatchSensor.partial(task_id="wait").expand(batch_id=create.output)
    DownloadResultsOperator.partial(
        task_id="download", output_path=DIRECTORY + "/out/{{ ti.map_index }}"
    ).expand(batch_id=wait.output)
""",
        # On Airflow 2.11, `dag.test()` loses the mapping of a task when it resumes.
        arguments='default_args={"deferrable": False}',
    )
    submitted = list(client.list_batches())
    assert len(submitted) == 3
    assert len({batch.input_file_id for batch in submitted}) == 2
    assert [len(custom_ids(directory / "out" / index / "results.jsonl")) for index in "012"] == [3, 3, 5]


def test_templates_groups_and_default_arguments_reach_the_service(
    run_dag: Callable[..., Path], client: SiliconFlowClient, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the connection is a URI, and `default_args` sets its id."""
    address = emulator.base_url.removeprefix("http://").removesuffix("/v1")
    monkeypatch.delenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT")
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", f"siliconflow://:{emulator.api_key}@{address}/http?deployment=tests")
    directory = run_dag(
        "templated",
        """
    with TaskGroup("evals"):
        upload = UploadFileOperator(task_id="upload", file_path="{{ params.directory }}/a.jsonl")
        create = CreateBatchOperator(
            task_id="create",
            input_file_id="{{ ti.xcom_pull('evals.upload') }}",
            completion_window="{{ params.hours }}h",
            metadata={"dag": "{{ dag.dag_id }}"},
            model="{{ params.model }}",
        )
        download = DownloadResultsOperator(
            task_id="download",
            batch_id="{{ ti.xcom_pull('evals.create') }}",
            output_path="{{ params.directory }}/{{ dag.dag_id }}",
        )
        upload >> create >> download
""",
        arguments='params={"model": "Qwen/QwQ-32B", "hours": 48, "directory": DIRECTORY}, '
        'default_args={"siliconflow_conn_id": "by_uri", "deferrable": False, "retries": 2}',
    )
    (batch,) = client.list_batches()
    assert batch.completion_window == "48h"
    assert batch.metadata["dag"] == "templated"
    assert batch.metadata["airflow_task"].startswith("templated/evals.create/")
    rows = [json.loads(line) for line in (directory / "templated" / "results.jsonl").read_text().splitlines()]
    assert {row["model"] for row in rows} == {"Qwen/QwQ-32B"}


def test_batch_id_exists_without_a_return_value(run_dag: Callable[..., Path], client: Any) -> None:
    directory = run_dag(
        "no_xcoms",
        """
    upload = UploadFileOperator(task_id="upload", file_path=f"{DIRECTORY}/c.jsonl")
    create = CreateBatchOperator(task_id="create", input_file_id=upload.output, do_xcom_push=False)
    pulled = "{{ ti.xcom_pull(task_ids='create', key='batch_id') }}"
    download = DownloadResultsOperator(
        task_id="download", batch_id=pulled, output_path=f"{DIRECTORY}/out", do_xcom_push=False
    )
    create >> download
""",
    )
    assert len(custom_ids(directory / "out" / "results.jsonl")) == 5


def test_a_teardown_cancels_running_batches_of_its_run(
    run_dag: Callable[..., Path], client: SiliconFlowClient, file_id: str
) -> None:
    other_batch = client.create_batch(file_id).id
    run_dag(
        "with_teardown",
        """
    upload = UploadFileOperator(task_id="upload", file_path=f"{DIRECTORY}/a.jsonl")
    create = CreateBatchOperator.partial(
        task_id="create", input_file_id=upload.output, wait_for_completion=False
    ).expand(model=["deepseek-ai/DeepSeek-V3", "Qwen/QwQ-32B"])
    create >> CancelBatchOperator(task_id="cancel").as_teardown(setups=upload)
""",
    )
    statuses = {batch.id: batch.status for batch in client.list_batches()}
    assert statuses.pop(other_batch) == "in_progress"
    assert list(statuses.values()) == ["cancelling", "cancelling"]
