from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from siliconflow_provider.emulator.server import Emulator
from tests.documents import HOSTILE, Parsed

DAG = """
import pendulum
from airflow.providers.common.compat.sdk import dag, task

from siliconflow_provider.operators.inference import BatchInferenceOperator

PRICES = {{"currency": "CNY", "models": {{"deepseek-ai/DeepSeek-V3": {{"input": 1, "output": 4}}}}}}


@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1, tz="UTC"))
def {dag_id}():
    @task
    def other():
        return 1

    BatchInferenceOperator(
        task_id="ask",
        requests=[{{"question": text}} for text in ("a", "b", "c", "d")],
        prompt="{{question}}",
        model="deepseek-ai/DeepSeek-V3",
        output_path={path!r},
        prices=PRICES,
        min_success_rate=0.5,
        max_rounds=2,
    )
    other()


{dag_id}()
"""
BrowserOf = Callable[..., TestClient]
HOSTILE_TEXT = HOSTILE.replace("\x00", "")


class Job:
    """A run of a DAG with one job, and another task."""

    def __init__(self, dag_id: str, run_id: str, output: Path) -> None:
        self.dag_id, self.run_id, self.output = dag_id, run_id, output

    def address(self, kind: str = "task", task_id: str = "ask", index: str = "{MAP_INDEX}") -> str:
        return f"/siliconflow/{kind}/{self.dag_id}/{task_id}/{index}/{self.run_id}"

    def change_xcom(self, **changes: Any) -> None:
        """Change what the task has returned, as a task may do by itself."""
        mine = XComModel.dag_id == self.dag_id, XComModel.task_id == "ask", XComModel.key == "return_value"
        with create_session() as session:
            stored = session.scalar(select(XComModel.value).where(*mine))
            value = json.loads(stored) if isinstance(stored, str) else stored
            changed = {**value, **changes}
            new = json.dumps(changed) if isinstance(stored, str) else changed
            session.execute(update(XComModel).where(*mine).values(value=new))


@pytest.fixture
def siliconflow_emulator_options(tmp_path: Path) -> dict[str, Any]:
    return {"data_dir": tmp_path / "emulator"}


@pytest.fixture
def job(
    airflow: None,
    siliconflow_emulator: Emulator,
    load_dag_file: Callable[[str], ModuleType],
    dags_folder: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Job:
    """A job that is over: two batches, and an error that two requests have."""
    # In the first round two of the four fail, in the second one both again.
    for positions in ([1, 2], [0, 1]):
        failing = {"positions": positions, "code": "content_filter", "message": HOSTILE_TEXT}
        siliconflow_emulator.control.plan(failing=failing, times=1)
    dag_id = f"tab_{request.node.name}"
    (dags_folder / f"{dag_id}.py").write_text(DAG.format(dag_id=dag_id, path=str(tmp_path / "out")))
    run = getattr(load_dag_file(f"{dag_id}.py"), dag_id)().test()
    return Job(dag_id, run.run_id, tmp_path / "out")


def test_tab_of_a_finished_job(job: Job, browser_of: BrowserOf, siliconflow_emulator: Emulator) -> None:
    """One run for several questions: a run takes seconds."""
    viewer = browser_of("viewer")
    response = viewer.get(job.address())
    page = Parsed(response.text)
    assert response.status_code == 200
    manifest = json.loads((job.output / "manifest.json").read_text())
    for batch in manifest["batches"]:
        assert batch["id"] in page.text
    assert "content_filter" in page.text
    assert "alert(1)" in page.text
    assert [name for name, _ in page.elements].count("script") == 1
    assert "CNY 0.00" in page.text
    assert str(job.output / "results.jsonl") in page.text
    # A job that is over costs the service nothing, and its page is not read again.
    listed = (siliconflow_emulator.data_dir / "requests.log").read_text().count('"GET", "path": "/v1/batches"')
    assert "data-refresh" not in response.text
    viewer.get(job.address())
    assert (siliconflow_emulator.data_dir / "requests.log").read_text().count('"GET", "path": "/v1/batches"') == listed

    other = viewer.get(job.address(task_id="other"))
    assert "has no SiliconFlow batches" in other.text
    assert viewer.get(job.address(task_id="none")).status_code == 404
    assert viewer.get(job.address(index="5")).status_code == 404
    assert browser_of("viewer").get("/siliconflow/task/secret/ask/-1/run").status_code == 403

    shown = viewer.get(job.address("task-manifest"))
    assert shown.json() == manifest
    assert viewer.get(job.address("task-report")).status_code == 404
    report = job.output / "report.html"
    report.write_text(f"<h1>Report</h1>{HOSTILE_TEXT}")
    job.change_xcom(report_path=str(report))
    links = [str(found.get("href")) for _, found in Parsed(viewer.get(job.address()).text).elements]
    (link,) = [address for address in links if "task-report" in address]
    served = viewer.get(link)
    assert served.text == report.read_text()
    policy = served.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "sandbox" in policy
    assert "script-src" not in policy

    secret = job.output / "secret.txt"
    secret.write_text("secret")
    job.change_xcom(report_path=str(secret), manifest_path=str(secret))
    for kind in ("task-report", "task-manifest"):
        assert viewer.get(job.address(kind)).status_code == 502
    job.change_xcom(manifest_path="s3://unknown@nowhere/manifest.json", report_path=7)
    assert "The API server cannot read manifest.json" in Parsed(viewer.get(job.address()).text).text
