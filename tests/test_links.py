from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from siliconflow_provider.links import BatchesLink, console_url
from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.sensors.batches import BatchSensor


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.siliconflow.com/v1", "https://cloud.siliconflow.com/me/batches"),
        ("https://api.siliconflow.cn/v1", "https://cloud.siliconflow.cn/me/batches"),
        ("http://127.0.0.1:8900/v1", "https://cloud.siliconflow.com/me/batches"),
        ("https://gateway.example.cn:8443/siliconflow/v1", "https://cloud.siliconflow.cn/me/batches"),
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


@pytest.mark.parametrize("operator", [CreateBatchOperator, CancelBatchOperator, DownloadResultsOperator, BatchSensor])
def test_every_batch_operator_has_the_link(operator: Any) -> None:
    assert [link.name for link in operator.operator_extra_links] == ["SiliconFlow batches"]
