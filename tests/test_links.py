from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from siliconflow_provider.exceptions import BatchWaitError, InvalidConnectionError
from siliconflow_provider.links import BatchesLink, ReportLink, console_url
from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.sensors.batches import BatchSensor


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.siliconflow.com/v1", "https://cloud.siliconflow.com/me/batches"),
        ("https://api.siliconflow.cn/v1", "https://cloud.siliconflow.cn/me/batches"),
        ("https://siliconflow.cn/v1", "https://cloud.siliconflow.cn/me/batches"),
        ("http://127.0.0.1:8900/v1", ""),
        ("https://gateway.example.cn:8443/siliconflow/v1", ""),
        ("https://notsiliconflow.com/v1", ""),
        ("https://api.siliconflow.com.example.com/v1", ""),
    ],
)
def test_link_leads_to_the_connections_console(base_url: str, url: str) -> None:
    assert console_url(base_url) == url


@pytest.mark.parametrize(("stored", "link"), [("https://cloud.example", "https://cloud.example"), (None, "")])
def test_ui_reads_the_stored_link(monkeypatch: pytest.MonkeyPatch, stored: Any, link: str) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(XCom, "get_value", lambda **arguments: asked.update(arguments) or stored)
    assert BatchesLink().get_link(None, ti_key="key") == link
    assert asked == {"ti_key": "key", "key": "siliconflow_batches_link"}


@pytest.mark.parametrize(
    ("operator", "has_results"),
    [
        (CreateBatchOperator, False),
        (CancelBatchOperator, False),
        (BatchSensor, False),
        (DownloadResultsOperator, True),
        (BatchInferenceOperator, True),
    ],
)
def test_each_operator_has_its_links(operator: Any, has_results: bool) -> None:
    report = ["Report"] if has_results and AIRFLOW_V_3_0_PLUS else []
    assert [link.name for link in operator.operator_extra_links] == ["SiliconFlow batches", *report]


KEY = SimpleNamespace(dag_id="nightly", task_id="eval.create", run_id="manual__2026-05-01/a?b", map_index=3)


@pytest.mark.parametrize(
    ("summary", "link"),
    [
        (
            {"report_path": "s3://bucket/report.html"},
            "siliconflow/task-report/nightly/eval.create/3/manual__2026-05-01%2Fa%3Fb",
        ),
        ({"results_path": "s3://bucket/results.jsonl"}, ""),
    ],
)
def test_a_report_is_linked_if_there_is_one(summary: dict[str, str], link: str) -> None:
    operator = BatchSensor(task_id="wait", batch_id="batch_1")
    assert ReportLink().get_link(operator, ti_key=KEY) == ""
    ReportLink.show(operator, summary)
    assert ReportLink().get_link(operator, ti_key=KEY) == link


class TestInTheTasksProcess:
    """Airflow 3 asks for the link there, once the task has ended."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        keys: list[str] = []
        monkeypatch.setattr(XCom, "get_value", lambda ti_key, key: keys.append(key) or "https://cloud.example")
        return keys

    def test_an_early_failure_asks_for_no_xcom(
        self, context: dict[str, Any], asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps({"conn_type": "siliconflow"}))
        sensor = BatchSensor(task_id="wait", batch_id="batch_1")
        with pytest.raises(InvalidConnectionError):
            sensor.execute(context)
        assert BatchesLink().get_link(sensor, ti_key="key") == ""
        assert asked == []

    @pytest.mark.parametrize(("host", "link"), [("", "https://cloud.siliconflow.com/me/batches"), ("localhost", "")])
    def test_the_stored_link_is_known(
        self, context: dict[str, Any], asked: list[str], monkeypatch: pytest.MonkeyPatch, host: str, link: str
    ) -> None:
        connection = {"conn_type": "siliconflow", "password": "sk-test", "host": host}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(connection))
        sensor = BatchSensor(task_id="wait", batch_id="batch_1")
        BatchesLink.persist(context, sensor)
        assert BatchesLink().get_link(sensor, ti_key="key") == link == context["ti"].xcoms[BatchesLink.xcom_key]
        assert asked == []

    def test_a_resumed_task_asks_for_the_xcom(self, context: dict[str, Any], asked: list[str]) -> None:
        sensor = BatchSensor(task_id="wait", batch_id="batch_1")
        with pytest.raises(BatchWaitError):
            sensor.resume_execution("execute_complete", {"event": None}, context)
        assert BatchesLink().get_link(sensor, ti_key="key") == "https://cloud.example"
