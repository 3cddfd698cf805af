"""A small round of what `make races` runs with processes, in real time."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.batches.creation import submit
from siliconflow_provider.batches.records import MemoryRecords
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

ATTEMPTS = 6
LAG = 0.4
# Batches of one second are told apart by their ids only, so that the kept one may be up to a second younger.
SETTLING = LAG + 1.2


def test_attempts_at_once_agree_on_one_batch(sums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = EmulatorOptions(tmp_path / "data", queue_seconds=3600, forms=Forms(list_lag_seconds=LAG))
    monkeypatch.setattr("siliconflow_provider.batches.creation.LIST_LAG_SECONDS", SETTLING)
    barrier = Barrier(ATTEMPTS)

    def attempt(number: int) -> tuple[str, str]:
        client, announced = SiliconFlowClient(emulator.api_key, emulator.base_url), []
        barrier.wait()
        time.sleep(LAG * (number % 3))
        return submit(
            client, Submission("key", file_id), MemoryRecords(), lambda batch: announced.append(batch.id)
        ).id, announced[-1]

    with Emulator(options) as emulator, ThreadPoolExecutor(ATTEMPTS) as threads:
        client = SiliconFlowClient(emulator.api_key, emulator.base_url)
        file_id = client.upload_file(io.BytesIO(sums(1))).id
        ends = list(threads.map(attempt, range(ATTEMPTS)))
        left = [each.id for each in client.list_batches() if each.status == "in_queue"]
    assert ends == [(*left, *left)] * ATTEMPTS
