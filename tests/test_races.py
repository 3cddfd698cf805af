"""A small round of what `make races` runs with processes, in real time."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.operators.batches import CreateBatchOperator

ATTEMPTS = 6
LAG = 0.4
# Batches of one second are told apart by their ids only, so that the kept one may be up to a second younger.
SETTLING = LAG + 1.2


def test_attempts_at_once_agree_on_one_batch(
    context: dict[str, Any], sums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EmulatorOptions(tmp_path / "data", queue_seconds=3600, forms=Forms(list_lag_seconds=LAG))
    monkeypatch.setattr("siliconflow_provider.jobs.submission.SETTLING_SECONDS", SETTLING)
    barrier = Barrier(ATTEMPTS)
    (tmp_path / "requests.jsonl").write_bytes(sums(1))

    def attempt(number: int) -> tuple[list[str], str]:
        ti = type(context["ti"])()
        operator = CreateBatchOperator(task_id="create", input_file_id=file_id)
        barrier.wait()
        time.sleep(LAG * (number % 3))
        with pytest.raises(TaskDeferred) as deferral:
            operator.execute({"ti": ti})
        return deferral.value.trigger.batch_ids, ti.xcoms["batch_id"]

    with Emulator(options) as emulator, ThreadPoolExecutor(ATTEMPTS) as threads:
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(emulator.airflow_connection))
        client = SiliconFlowClient(emulator.api_key, emulator.base_url)
        file_id = client.upload_file(tmp_path / "requests.jsonl").id
        waits = list(threads.map(attempt, range(ATTEMPTS)))
        left = [each.id for each in client.list_batches() if each.status == "in_queue"]
    assert len(left) == 1
    assert waits == [(left, left[0])] * ATTEMPTS
