from __future__ import annotations

import logging
from typing import Any

import pytest

from siliconflow_provider.xcoms import push_xcom


def test_a_failed_push_is_a_warning(context: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    def fail(**_: Any) -> None:
        raise ConnectionError(f"API server away\n[forged] https://h/x?Signature=s3cret\t{'x' * 3_000}")

    context["ti"].xcom_push = fail
    push_xcom(context, "batch_ids", ["batch_1"])
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = record.getMessage()
    begin = "could not push XCom batch_ids, going on without it: API server away [forged] https://h/x?...\\tx"
    assert said.startswith(begin)
    assert said.endswith(" more characters)")
    assert len(said) < 2_200
