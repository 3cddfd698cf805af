"""Existing batches of a submission are found and resumed instead of created again."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.dag_run import find_running_by_dag_run
from siliconflow_provider.batches.finder import BatchFinder
from siliconflow_provider.batches.records import MemoryRecords
from siliconflow_provider.batches.submission import Submission, batch_to_resume
from siliconflow_provider.emulator.forms import Forms
from tests.submissions import CREATED, DAY, WANTED, cleared, creates, submitted


def find_batch(client: SiliconFlowClient, submission: Submission) -> Batch | None:
    found = BatchFinder(client, submission, MemoryRecords()).find_and_record()
    assert found.error is None
    return batch_to_resume(found.batches, submission)


def test_a_second_attempt_resumes_the_batch(
    client: SiliconFlowClient, emulator: Any, clock: Any, file_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = submitted(client, Submission(key="key-1", input_file_id=file_id, max_tries=1))
    clock.advance(60)
    second = submitted(client, Submission(key="key-1", input_file_id=file_id, max_tries=1))
    assert (second.id, second.status, creates(emulator)) == (first.id, "in_progress", 1)
    assert caplog.messages == [
        f"created batch {first.id} of file {file_id} (in_queue)",
        f"resuming batch {first.id} (in_progress) of an earlier attempt",
    ]


def test_metadata_label_and_tries_do_not_change_identity(
    client: SiliconFlowClient, emulator: Any, file_id: str
) -> None:
    first = submitted(client, Submission(key="key-1", input_file_id=file_id))
    again = Submission(key="key-1", input_file_id=file_id, metadata={"new": "pair"}, label="renamed", max_tries=5)
    assert submitted(client, again).id == first.id


def test_a_completed_batch_is_resumed(client: SiliconFlowClient, clock: Any, file_id: str) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    first = submitted(client, submission)
    clock.advance(200)
    assert (submitted(client, submission).id, client.get_batch(first.id).status) == (first.id, "completed")


def test_a_batch_of_another_key_is_not_resumed(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    first = submitted(client, Submission(key="key-1", input_file_id=file_id))
    second = submitted(client, Submission(key="key-2", input_file_id=file_id))
    assert (first.id == second.id, creates(emulator)) == (False, 2)


CHANGES = [{"model": "m"}, {"completion_window": "48h"}, {"input_file_id": "file-2"}]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("end", [None, "completed", "expired"])
def test_a_retry_with_changed_arguments_submits_nothing(
    client: SiliconFlowClient, emulator: Any, file_id: str, change: dict[str, Any], end: str | None, caplog: Any
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    if end is not None:
        emulator.control.plan(end=end, queue_seconds=0, run_seconds=0)
    first = submitted(client, submission)
    changed = replace(submission, **change)
    assert (submitted(client, changed).id, creates(emulator)) == (first.id, 1)
    assert changed.changes_since(client.get_batch(first.id)) == list(change)
    assert f"although the task's {next(iter(change))} changed: a retry does not submit a second" in caplog.text


@pytest.mark.parametrize("change", CHANGES[:2], ids=lambda change: next(iter(change)))
def test_a_changed_cleared_task_submits_again(
    client: SiliconFlowClient, emulator: Any, file_id: str, change: dict[str, Any]
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    first = submitted(client, submission)
    assert submitted(client, cleared(replace(submission, **change))).id != first.id


def test_a_cancelled_batch_is_resubmitted_only_when_cleared(
    client: SiliconFlowClient, clock: Any, file_id: str
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id, max_tries=3)
    first = submitted(client, submission)
    client.cancel_batch(first.id)
    assert submitted(client, submission).status == "cancelling"
    clock.advance(30)
    assert submitted(client, submission).status == "cancelled"
    assert submitted(client, cleared(submission)).id != first.id


def test_a_failed_batch_is_resubmitted_only_when_cleared(client: SiliconFlowClient, clock: Any) -> None:
    submission = Submission(key="key-1", input_file_id=client.upload_file(io.BytesIO(b"not json\n")).id)
    first = submitted(client, submission)
    clock.advance(30)
    found = submitted(client, submission)
    assert (found.id, found.status) == (first.id, "failed")
    assert submitted(client, cleared(submission)).id != first.id


def test_of_several_failed_batches_the_oldest_counts(service: Any, account: SiliconFlowClient) -> None:
    """A concurrent attempt created the younger one, and it was cancelled as a duplicate."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", created_at=CREATED - 10, metadata=mine, status="cancelled")
    service.has(id="batch_a", created_at=CREATED - 20, metadata=mine, status="expired")
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_a"


@pytest.mark.parametrize(
    ("tries", "is_repeated"),
    [(None, True), ("", True), ("-1", True), ("many", True), (2, True), ("1", False), (9, False)],
)
def test_a_final_status_counts_until_cleared(
    service: Any, account: SiliconFlowClient, tries: Any, is_repeated: bool
) -> None:
    """Clearing may lower `max_tries` if `retries` was lowered; an unknown number does not count as cleared."""
    metadata = {**WANTED.batch_metadata(), "airflow_max_tries": tries}
    service.has(id="batch_1", metadata=metadata, status="expired")
    assert (find_batch(account, replace(WANTED, is_cleared_try=True)) is not None) == is_repeated


@pytest.mark.parametrize(
    ("is_cleared_try", "tries", "run_started", "is_repeated"),
    [
        # An automatic retry, in the same run, of a task that was cleared while the batch was running.
        (False, 3, CREATED - 100, True),
        # An automatic retry after an attempt that a user started after the batch had ended.
        (False, 3, CREATED + 100, False),
        (True, 3, CREATED - 100, False),
        # `retries` was lowered so that clearing does not change `max_tries`.
        (True, 2, CREATED + 100, False),
        (True, 2, CREATED - 100, True),
        (False, 2, CREATED + 100, True),
    ],
)
def test_detection_of_cleared_tasks(
    service: Any,
    account: SiliconFlowClient,
    is_cleared_try: bool,
    tries: int,
    run_started: int,
    is_repeated: bool,
) -> None:
    service.has(id="batch_1", metadata=WANTED.batch_metadata(), status="expired", expired_at=CREATED + 50)
    attempt = replace(
        WANTED,
        max_tries=tries,
        is_cleared_try=is_cleared_try,
        run_started_at=pendulum.from_timestamp(run_started),
    )
    assert (find_batch(account, attempt) is not None) == is_repeated


@pytest.mark.parametrize(
    ("fields", "is_found"),
    [
        ({"status": "in_queue"}, True),
        ({"status": "validating"}, True),
        ({"status": "pondering"}, True),
        ({"status": "finalizing"}, True),
        ({"status": "completed"}, True),
        ({"status": "pondering", "completed_at": CREATED}, True),
        ({"status": "cancelling"}, False),
        ({"status": "failed"}, False),
        ({"status": "expired"}, False),
        ({"status": "cancelled"}, False),
        ({"status": "pondering", "expired_at": CREATED}, False),
    ],
)
def test_running_and_completed_batches_are_resumed_when_cleared(
    service: Any, account: SiliconFlowClient, fields: dict[str, Any], is_found: bool
) -> None:
    service.has(id="batch_1", metadata=WANTED.batch_metadata(), **fields)
    assert find_batch(account, WANTED) is not None
    assert (find_batch(account, cleared(WANTED)) is not None) == is_found


def test_the_oldest_of_several_batches_is_resumed(service: Any, account: SiliconFlowClient) -> None:
    mine = WANTED.batch_metadata()
    service.has(id="batch_a", created_at=CREATED - 10, metadata=mine)
    service.has(id="batch_c", created_at=CREATED - 20, metadata=mine)
    service.has(id="batch_b", created_at=CREATED - 20, metadata=mine)
    service.has(id="batch_0", created_at=CREATED - 30, metadata=mine, status="failed")
    service.has(id="batch_9", created_at=CREATED - 40, metadata={**mine, "airflow_key": "other"})
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_b"
    assert service.requests == ["GET /batches"]


def test_items_without_metadata_are_requested_singly(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    service.has(id="batch_1", input_file_id="file-1", metadata=WANTED.batch_metadata())
    service.has(id="batch_2", input_file_id="file-2", metadata={"airflow_key": "other"}, created_at=CREATED - 1)
    service.has(id="batch_3", input_file_id="file-1", metadata=None, created_at=CREATED - 2)
    found = find_batch(account, WANTED)
    assert found is not None
    assert (found.id, found.metadata) == ("batch_1", WANTED.batch_metadata())
    assert service.requests == ["GET /batches", "GET /batches/batch_1", "GET /batches/batch_3"]


def test_items_without_metadata_and_input_are_requested_singly(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata", "input_file_id", "created_at")
    service.has(id="batch_1", input_file_id="file-1", metadata=WANTED.batch_metadata())
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_1"


def test_items_without_times_are_requested_singly(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("created_at",)
    service.has(id="batch_a", created_at=CREATED - 10, metadata=WANTED.batch_metadata())
    service.has(id="batch_b", created_at=CREATED - 20, metadata=WANTED.batch_metadata())
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_b"


def test_batches_older_than_thirty_days_are_ignored(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    for number, days in enumerate((29, 31, 40)):
        service.has(id=f"batch_{number}", created_at=CREATED - days * DAY, metadata={}, input_file_id="file-1")
    assert find_batch(account, WANTED) is None
    assert service.requests == ["GET /batches", "GET /batches/batch_0"]


def test_a_create_contains_all_arguments(client: SiliconFlowClient, clock: Any, file_id: str) -> None:
    submission = Submission(
        key="key-1",
        input_file_id=file_id,
        completion_window=timedelta(hours=48),
        model="Qwen/QwQ-32B",
        metadata={"team": "nlp"},
    )
    batch = submitted(client, submission)
    assert (batch.completion_window, batch.endpoint) == ("48h", "/v1/chat/completions")
    assert batch.metadata == submission.batch_metadata()
    clock.advance(200)
    target = io.BytesIO()
    client.download(client.get_batch(batch.id).output_file_id or "", target)
    assert b"Qwen/QwQ-32B" in target.getvalue()


def test_every_page_is_searched(client: SiliconFlowClient, emulator: Any, file_id: str, forms: Forms) -> None:
    first = submitted(client, Submission(key="key-1", input_file_id=file_id))
    for _ in range(230):
        client.create_batch(file_id, metadata={"airflow_key": "somebody else's"})
    before = emulator.control.answers()["GET /batches"][200]
    found = find_batch(client, Submission(key="key-1", input_file_id=file_id))
    assert found is not None
    assert found.id == first.id
    assert emulator.control.answers()["GET /batches"][200] - before == 3


@pytest.mark.parametrize(
    "forms", [Forms(unpaged=True), Forms(list_without_metadata=True), Forms(list_without_times=True)]
)
def test_the_batch_is_found_in_every_list(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    first = submitted(client, submission)
    for _ in range(3):
        client.create_batch(file_id)
    assert (submitted(client, submission).id, emulator.control.batches_created()) == (first.id, 4)


@pytest.mark.parametrize("hidden", [(), ("metadata",)])
def test_three_thousand_foreign_batches_need_one_search(service: Any, account: Any, hidden: tuple[str, ...]) -> None:
    service.hidden = hidden
    others = {"airflow_key": "other", "airflow_input": WANTED.input_key}
    for number in range(3000):
        service.has(
            id=f"batch_{number}", input_file_id=f"file-of-{number}", metadata=others, created_at=CREATED - number
        )
    service.has(id="batch_mine", input_file_id="file-1", metadata=WANTED.batch_metadata(), created_at=CREATED - 9000)
    found = find_batch(account, WANTED)
    assert found is not None
    assert found.id == "batch_mine"
    assert service.requests == ["GET /batches", *(["GET /batches/batch_mine"] if hidden else [])]


def test_running_batches_of_a_dag_run_are_found(
    client: SiliconFlowClient, clock: Any, sums: Callable[[int], bytes]
) -> None:
    file_id = client.upload_file(io.BytesIO(sums(2))).id

    def create(key: str, run: str) -> str:
        return submitted(client, Submission(key=key, run_key=run, input_file_id=file_id)).id

    create("over", "run-1")
    clock.advance(300)
    ours = {create("a", "run-1"), create("b", "run-1")}
    client.cancel_batch(create("cancelled", "run-1"))
    create("c", "run-2")
    client.create_batch(file_id)
    assert {item.id for item in find_running_by_dag_run(client, "run-1")[0]} == ours


def test_dag_run_search_requests_items_without_metadata(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    service.has(id="batch_1", metadata={"airflow_run": "run-1"}, created_at=CREATED)
    service.has(id="batch_2", metadata={"airflow_run": "run-1"}, status="completed", created_at=CREATED - 1)
    service.has(id="batch_3", metadata={"airflow_run": "run-2"}, created_at=CREATED - 2)
    assert [item.id for item in find_running_by_dag_run(account, "run-1")[0]] == ["batch_1"]
    assert service.requests == ["GET /batches", "GET /batches/batch_1", "GET /batches/batch_3"]
