"""Events of outlets have a summary of the results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias

from siliconflow_provider.emulator.control import Control
from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator

ASSET, OTHER = Asset("s3://bucket/answers"), Asset("s3://bucket/other")
PRICES = {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1_000_000, "output": 0}}}
DAG = """
import pendulum
from airflow.providers.common.compat.sdk import Asset, AssetAlias, dag
from siliconflow_provider.operators.inference import BatchInferenceOperator

ASSET = Asset("s3://bucket/answers")

@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1))
def mapped():
    BatchInferenceOperator.partial(
        task_id="ask", model="deepseek-ai/DeepSeek-V3", deferrable=False, outlets=[ASSET, AssetAlias("any")],
        output_path={path!r} + "/{{{{ ti.map_index }}}}",
        post_execute=lambda context, result: print("event", context["outlet_events"][ASSET].extra),
    ).expand(requests=[["1 + 1"], ["2 + 1", "3 + 1"]])

mapped()
"""


@pytest.fixture
def outlet_events(context: dict[str, Any]) -> Any:
    """Give the context the events that Airflow's task runner gives it."""
    with suppress(ImportError):
        from airflow.sdk.execution_time.context import OutletEventAccessors

        return context.setdefault("outlet_events", OutletEventAccessors())
    from airflow.utils.context import OutletEventAccessors

    return context.setdefault("outlet_events", OutletEventAccessors())


def test_a_job_adds_its_summary(infer: Any, run: Any, outlet_events: Any, tmp_path: Path) -> None:
    outlet_events[OTHER].extra["by"] = "user"
    run(lambda: infer(requests=["1 + 1", "2 + 1"], prices=PRICES, outlets=[ASSET, OTHER, AssetAlias("any")]))
    summary = {
        "results_path": f"file://{tmp_path}/out/results.jsonl",
        "rows": 2,
        "success_rate": 1.0,
        "cost": 4.0,
        "currency": "CNY",
    }
    assert outlet_events[ASSET].extra == summary
    assert outlet_events[OTHER].extra == {"by": "user", **summary}
    assert outlet_events[AssetAlias("any")].extra == {}


def test_a_download_adds_its_summary(
    connection: str, run: Any, control: Control, outlet_events: Any, file_id: str, tmp_path: Path
) -> None:
    control.plan(failing={"custom_ids": ["r1", "r2", "r3"]})
    batch_id = run(lambda: CreateBatchOperator(task_id="create", input_file_id=file_id))
    arguments = {"task_id": "download", "batch_id": batch_id, "output_path": str(tmp_path / "out"), "outlets": [ASSET]}
    run(lambda: DownloadResultsOperator(**arguments))
    assert outlet_events[ASSET].extra == {
        "results_path": f"file://{tmp_path}/out/results.jsonl",
        "rows": 12,
        "success_rate": 0.75,
    }


def test_mapped_tasks_have_their_own_summaries(
    dags_folder: Path,
    load_dag_file: Callable[[str], ModuleType],
    connection: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (dags_folder / "mapped.py").write_text(DAG.format(path=str(tmp_path)))
    assert str(load_dag_file("mapped.py").mapped().test().state).endswith("success")
    shown = capsys.readouterr().out
    for index in range(2):
        path = f"file://{tmp_path}/{index}/results.jsonl"
        assert str({"results_path": path, "rows": index + 1, "success_rate": 1.0}) in shown
