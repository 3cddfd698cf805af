"""Submissions, and helpers that submit them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.creation import submit
from siliconflow_provider.batches.records import MemoryRecords
from siliconflow_provider.batches.submission import Submission

Sums = Callable[[int], bytes]
DAY = 24 * 3600
CREATED = 1_800_000_000
WANTED = Submission(key="key-1", run_key="run-1", input_file_id="file-1", label="dag/task/run/-1", max_tries=2)


def submitted(client: SiliconFlowClient, submission: Submission) -> Batch:
    """Submit, check that the batch announced last is the returned one, and return it."""
    announced: list[Batch] = []
    batch = submit(client, submission, MemoryRecords(), announced.append)
    assert announced[-1].id == batch.id
    return batch


def cleared(submission: Submission) -> Submission:
    """Return the submission of an attempt that a user started by clearing the task."""
    return replace(submission, max_tries=submission.max_tries + 1, is_cleared_try=True)


def creates(emulator: Any) -> int:
    """Return the number of create requests that the emulator has received."""
    log = (emulator.data_dir / "requests.log").read_text().splitlines()
    received = [entry for entry in map(json.loads, log) if entry["event"] == "received"]
    return [(entry["method"], entry["path"]) for entry in received].count(("POST", "/v1/batches"))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
