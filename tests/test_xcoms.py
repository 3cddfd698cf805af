from __future__ import annotations

import logging
from typing import Any

import pytest

from siliconflow_provider.xcoms import push_xcom


def test_a_failed_push_is_a_warning(context: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    def fail(**_: Any) -> None:
        raise ConnectionError("API server away")

    context["ti"].xcom_push = fail
    push_xcom(context, "batch_ids", ["batch_1"])
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == "could not push XCom batch_ids, going on without it: API server away"
