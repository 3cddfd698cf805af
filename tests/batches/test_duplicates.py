"""Concurrent attempts: the oldest batch is kept, the others are cancelled."""

from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS, submit
from siliconflow_provider.batches.duplicates import find_and_cancel_duplicates
from siliconflow_provider.batches.records import MemoryRecords
from siliconflow_provider.batches.submission import Submission
from tests.submissions import CREATED, WANTED, cleared, submitted, warnings


def older(client: SiliconFlowClient, batch_id: str) -> str | None:
    """Return the id of the older batch that is kept instead of this one."""
    found = find_and_cancel_duplicates(client, WANTED, MemoryRecords(), client.get_batch(batch_id))
    return None if found is None else found.id


def test_an_older_batch_found_after_creating_wins(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The response to its create came later, but it has the same creation time and a smaller id."""
    submission = Submission(key="key-1", input_file_id=file_id)
    announced: list[str] = []

    def other_attempt(batch: Batch) -> None:
        announced.append(batch.id)
        while len(announced) == 1 and min(item.id for item in client.list_batches()) == batch.id:
            client.create_batch(file_id, metadata=submission.batch_metadata())

    batch = submit(client, submission, MemoryRecords(), other_attempt)
    by_id = {item.id: item.status for item in client.list_batches()}
    assert announced == [announced[0], batch.id]
    assert batch.id == min(by_id)
    assert by_id.pop(batch.id) == "in_queue"
    assert set(by_id.values()) == {"cancelling"}
    assert f"keeping {batch.id}, which is older; {announced[0]} is cancelling" in caplog.text


def test_the_duplicate_of_a_killed_attempt_is_cancelled(client: SiliconFlowClient, file_id: str, clock: Any) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    older = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    clock.advance(1)
    younger = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    assert submitted(client, submission).id == older
    assert client.get_batch(younger).status == "cancelling"


def test_an_older_batch_replaces_a_resumed_one(service: Any, account: SiliconFlowClient, clock: Any) -> None:
    """The attempt that created it cancels it, so an attempt that resumed it must not wait for it."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", metadata=mine)
    clock.after(LIST_LAG_SECONDS - 1, lambda: service.has(id="batch_a", metadata=mine))
    announced: list[str] = []
    assert submit(account, WANTED, MemoryRecords(), lambda batch: announced.append(batch.id)).id == "batch_a"
    assert announced == ["batch_b", "batch_a"]
    assert service.batches["batch_b"]["status"] == "cancelling"


def test_an_older_batch_replaces_a_cancelled_one(service: Any, account: SiliconFlowClient, clock: Any) -> None:
    """It was cancelled as a duplicate, which is no final status of the submission."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", metadata=mine, status="cancelled")
    clock.after(LIST_LAG_SECONDS - 1, lambda: service.has(id="batch_a", metadata=mine))
    assert submitted(account, WANTED).id == "batch_a"


def test_an_unlisted_own_batch_wins_over_younger_ones(service: Any, account: SiliconFlowClient) -> None:
    """Otherwise two attempts that each see only the other's batch would cancel both."""
    service.has(id="batch_a", metadata=WANTED.batch_metadata(), created_at=CREATED - 1)
    service.has(id="batch_b", metadata=WANTED.batch_metadata(), created_at=CREATED)
    service.unlisted = {"batch_a"}
    assert older(account, "batch_a") is None
    assert (service.batches["batch_a"]["status"], service.batches["batch_b"]["status"]) == ("in_progress", "cancelling")


def test_a_completed_duplicate_is_only_logged(
    service: Any, account: SiliconFlowClient, caplog: pytest.LogCaptureFixture
) -> None:
    mine = WANTED.batch_metadata()
    service.has(id="batch_a", metadata=mine, created_at=CREATED - 1)
    service.has(id="batch_b", metadata=mine, status="completed")
    assert older(account, "batch_b") == "batch_a"
    assert [request for request in service.requests if request.startswith("POST")] == []
    assert "keeping batch_a, which is older; batch_b is completed" in caplog.text


def test_a_batch_with_another_input_is_only_named(
    client: SiliconFlowClient, file_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = submitted(client, Submission(key="key-1", input_file_id=file_id, model="m"))
    over = submitted(client, cleared(Submission(key="key-1", input_file_id=file_id, model="n")))
    client.cancel_batch(over.id)
    caplog.clear()
    submitted(client, cleared(cleared(Submission(key="key-1", input_file_id=file_id))))
    assert warnings(caplog) == [
        f"batch {other.id} (in_progress) of this task, with another file, model or window, is still running and billed"
        f".\nTo cancel: python -m siliconflow_provider cancel {other.id}"
    ]
    assert client.get_batch(other.id).status == "in_progress"


@pytest.mark.parametrize("times", [1, 20])
def test_a_cancel_that_fails_is_tried_again(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    """Both are billed until then. After an hour, the task waits for the older one in any case."""
    emulator.control.plan(stuck="in_queue", every=1)
    submission = Submission(key="key-1", input_file_id=file_id)
    older = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    clock.advance(1)
    younger = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    emulator.control.fault("POST /batches/{id}/cancel", status=403, times=times)
    assert submitted(client, submission).id == older
    assert f"could not cancel batch {younger}, a duplicate that is billed" in caplog.text
    assert client.get_batch(younger).status == ("cancelling" if times == 1 else "in_queue")
