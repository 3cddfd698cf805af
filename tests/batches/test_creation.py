from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import (
    CreateUncertainError,
    IncompleteListError,
    RateLimitError,
    UnreadableAnswerError,
)
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.creation import (
    LIST_LAG_SECONDS,
    SEARCH_PAUSES,
    find_and_cancel_duplicates,
    find_running_by_dag_run,
    submit,
)
from siliconflow_provider.batches.finder import BatchFinder, UnsafeSubmitError
from siliconflow_provider.batches.records import MemoryRecords, new_record
from siliconflow_provider.batches.submission import Submission, batch_to_resume
from siliconflow_provider.emulator.forms import Forms

Sums = Callable[[int], bytes]
DAY = 24 * 3600
CREATED = 1_800_000_000
WANTED = Submission(key="key-1", run_key="run-1", input_file_id="file-1", label="dag/task/run/-1", max_tries=2)
OURS = ["airflow_key", "airflow_run", "airflow_input", "airflow_max_tries", "airflow_task"]


@pytest.fixture
def file_id(client: SiliconFlowClient, sums: Sums) -> str:
    return client.upload_file(io.BytesIO(sums(2))).id


def submitted(client: SiliconFlowClient, submission: Submission) -> Batch:
    """Submit, and hold that what was announced last is what is returned."""
    announced: list[Batch] = []
    batch = submit(client, submission, MemoryRecords(), announced.append)
    assert announced[-1].id == batch.id
    return batch


def find_batch(client: SiliconFlowClient, submission: Submission) -> Batch | None:
    found = BatchFinder(client, submission, MemoryRecords()).find_and_record()
    assert found.error is None
    return batch_to_resume(found.batches, submission)


def older(client: SiliconFlowClient, batch_id: str) -> str | None:
    """Return the id of the older batch that is kept beside this one."""
    found = find_and_cancel_duplicates(client, WANTED, MemoryRecords(), client.get_batch(batch_id))
    return None if found is None else found.id


def cleared(submission: Submission) -> Submission:
    """Return it as an attempt has it that a person started by clearing the task."""
    return replace(submission, max_tries=submission.max_tries + 1, is_cleared_try=True)


def creates(emulator: Any) -> int:
    log = (emulator.data_dir / "requests.log").read_text().splitlines()
    received = [each for each in map(json.loads, log) if each["event"] == "received"]
    return [(each["method"], each["path"]) for each in received].count(("POST", "/v1/batches"))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


# --- found again


def test_a_second_attempt_takes_the_batch_over(
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


def test_a_completed_batch_is_taken_over(client: SiliconFlowClient, clock: Any, file_id: str) -> None:
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
def test_a_cleared_task_submits_what_has_changed(
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


def test_of_several_verdicts_the_oldest_is_repeated(service: Any, account: SiliconFlowClient) -> None:
    """The younger one was created by another attempt at the same time, and cancelled for the older one."""
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
    """Clearing can lower `max_tries` too, where `retries` was lowered; an unknown number is no clear."""
    metadata = {**WANTED.batch_metadata(), "airflow_max_tries": tries}
    service.has(id="batch_1", metadata=metadata, status="expired")
    assert (find_batch(account, replace(WANTED, is_cleared_try=True)) is not None) == is_repeated


@pytest.mark.parametrize(
    ("is_cleared_try", "tries", "run_started", "is_repeated"),
    [
        # An automatic retry, while the run goes on, of a task that was cleared while the batch ran.
        (False, 3, CREATED - 100, True),
        # An automatic retry after an attempt that a person started once the batch was over.
        (False, 3, CREATED + 100, False),
        (True, 3, CREATED - 100, False),
        # `retries` was lowered so that a clear leaves `max_tries` as it was.
        (True, 2, CREATED + 100, False),
        (True, 2, CREATED - 100, True),
        (False, 2, CREATED + 100, True),
    ],
)
def test_what_counts_as_cleared(
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


def test_items_without_metadata_are_asked_for_singly(service: Any, account: SiliconFlowClient) -> None:
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


def test_nothing_older_than_thirty_days_is_looked_at(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    for number, days in enumerate((29, 31, 40)):
        service.has(id=f"batch_{number}", created_at=CREATED - days * DAY, metadata={}, input_file_id="file-1")
    assert find_batch(account, WANTED) is None
    assert service.requests == ["GET /batches", "GET /batches/batch_0"]


def test_a_create_carries_all_that_was_asked_for(client: SiliconFlowClient, clock: Any, file_id: str) -> None:
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


def test_every_page_is_looked_at(client: SiliconFlowClient, emulator: Any, file_id: str, forms: Forms) -> None:
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
def test_whatever_the_list_shows_the_batch_is_found(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    submission = Submission(key="key-1", input_file_id=file_id)
    first = submitted(client, submission)
    for _ in range(3):
        client.create_batch(file_id)
    assert (submitted(client, submission).id, emulator.control.batches_created()) == (first.id, 4)


@pytest.mark.parametrize("hidden", [(), ("metadata",)])
def test_three_thousand_batches_of_others_cost_one_look(service: Any, account: Any, hidden: tuple[str, ...]) -> None:
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


# --- answers that are lost

AFTER_THE_WORK = [
    {"kind": "lost_answer"},
    *({"status": status, "after_work": True} for status in (500, 502, 503, 504)),
    *({"status": status, "body": "", "after_work": True} for status in (302, 307, 409, 499)),
    *({"status": 200, "body": {"code": code, "message": "busy"}, "after_work": True} for code in (50505, 60000)),
    {"kind": "garbage", "after_work": True},
    {"kind": "cut", "after_bytes": 30},
]
NOT_CARRIED_OUT = [{"kind": "reset"}, *({"status": status} for status in (500, 502, 503, 504)), {"kind": "garbage"}]
LAGS = [Forms(), Forms(list_lag_seconds=3)]


@pytest.mark.parametrize("forms", LAGS, ids=lambda forms: f"lag {forms.list_lag_seconds:g}")
@pytest.mark.parametrize("fault", AFTER_THE_WORK, ids=str)
def test_a_create_whose_answer_was_lost_is_found(
    client: SiliconFlowClient, emulator: Any, file_id: str, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    emulator.control.fault("POST /batches", **fault)
    batch = submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 1)
    assert "whether a batch of file" in warnings(caplog)[0]
    assert warnings(caplog)[1:] == [
        f"the create was executed although its response was lost: using batch {batch.id} (in_queue)"
    ]


@pytest.mark.parametrize("forms", LAGS, ids=lambda forms: f"lag {forms.list_lag_seconds:g}")
@pytest.mark.parametrize("fault", NOT_CARRIED_OUT, ids=str)
def test_a_create_that_was_not_executed_is_resent(
    client: SiliconFlowClient, emulator: Any, file_id: str, fault: dict[str, Any], caplog: Any, clock: Any
) -> None:
    started = clock.now
    emulator.control.fault("POST /batches", **fault)
    submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 2)
    assert clock.now - started == sum(SEARCH_PAUSES[0]) + LIST_LAG_SECONDS
    assert warnings(caplog)[1:] == [
        "the create was not executed: no such batch in the list after 14 s; creating it again"
    ]


@pytest.mark.parametrize("records", [MemoryRecords(), None], ids=["written down", "forgotten"])
def test_three_lost_creates_are_an_error(
    client: SiliconFlowClient, emulator: Any, file_id: str, records: MemoryRecords | None
) -> None:
    """A retry that knows of them creates no more, and one that does not is the next of a bounded number."""
    submission = Submission(key="key-1", input_file_id=file_id)
    emulator.control.fault("POST /batches", status=504, times=3)
    with pytest.raises(CreateUncertainError, match=r"the responses to 3 creates .* clear the task to create it"):
        submit(client, submission, records or MemoryRecords(), lambda batch: None)
    assert (creates(emulator), emulator.control.batches_created()) == (3, 0)
    if records is not None:
        with pytest.raises(CreateUncertainError):
            submit(client, submission, records, lambda batch: None)
        assert creates(emulator) == 3
    submit(client, cleared(submission), records or MemoryRecords(), lambda batch: None)
    assert (creates(emulator), emulator.control.batches_created()) == (4, 1)


@pytest.mark.parametrize("forms", LAGS, ids=lambda forms: f"lag {forms.list_lag_seconds:g}")
@pytest.mark.parametrize("after_work", [True, False])
def test_after_a_429_a_search_precedes_resending(
    client: SiliconFlowClient, emulator: Any, file_id: str, after_work: bool
) -> None:
    emulator.control.fault("POST /batches", status=429, after_work=after_work, times=1 if after_work else 2)
    submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 1 if after_work else 3)


@pytest.mark.parametrize(("asked", "waited"), [(7, 15 + 60), (70, 70 + 70), (86_400, 120 + 120)])
def test_after_a_429_retry_after_is_limited(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any, asked: int, waited: int
) -> None:
    started = clock.now
    emulator.control.fault("POST /batches", status=429, retry_after=asked, times=2)
    submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert clock.now - started == waited + LIST_LAG_SECONDS


@pytest.mark.parametrize("forms", [Forms(list_lag_seconds=600)])
def test_executed_creates_with_429_are_limited_across_attempts(
    client: SiliconFlowClient, emulator: Any, file_id: str
) -> None:
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    emulator.control.fault("POST /batches", status=429, after_work=True, every=1)
    with pytest.raises(RateLimitError):
        submit(client, submission, records, lambda batch: None)
    for _ in range(2):
        assert submit(client, submission, records, lambda batch: None).status != "failed"
    assert creates(emulator) == 3


def test_hours_of_429_do_not_block_an_account(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    emulator.control.fault("POST /batches", status=429, times=7)
    for _ in range(2):
        with pytest.raises(RateLimitError):
            submit(client, submission, records, lambda batch: None)
    submit(client, submission, records, lambda batch: None)
    assert (creates(emulator), emulator.control.batches_created()) == (8, 1)


def test_a_killed_attempts_create_is_searched_first(
    client: SiliconFlowClient, emulator: Any, file_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    records.write(new_record(submission.batch_metadata()))
    submit(client, submission, records, lambda batch: None)
    assert warnings(caplog) == ["the create was not executed: no such batch in the list after 14 s; creating it again"]
    assert [each.state for each in records.read()] == ["sent", "created"]


@pytest.mark.parametrize("forms", [Forms(list_lag_seconds=10)])
def test_a_killed_attempts_batch_is_found_once_listed(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    records.write(new_record(submission.batch_metadata()))
    batch = client.create_batch(file_id, metadata=submission.batch_metadata())
    assert submit(client, submission, records, lambda batch: None).id == batch.id
    assert (creates(emulator), records.read()[0].batch_id) == (1, batch.id)


def test_finding_a_killed_attempts_batch_records_it(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    """A later list may hide it again."""
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    records.write(new_record(submission.batch_metadata()))
    batch = client.create_batch(file_id, metadata=submission.batch_metadata())
    seen = BatchFinder(client, submission, records).find_and_record()
    assert (seen.open_records, records.read()[0].batch_id) == ([], batch.id)
    emulator.control.fault("GET /batches", status=200, body={"data": []}, every=1)
    assert [each.id for each in BatchFinder(client, submission, records).find_and_record().batches] == [batch.id]


@pytest.mark.parametrize("is_first_try", [True, False])
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 403}, {"status": 200, "body": {"data": None}}], ids=str)
def test_a_lost_create_waits_for_a_readable_list(
    client: SiliconFlowClient, emulator: Any, file_id: str, fault: dict[str, Any], is_first_try: bool
) -> None:
    submission = Submission(key="key-1", input_file_id=file_id, is_first_try=is_first_try)
    emulator.control.fault("POST /batches", kind="lost_answer")
    emulator.control.fault("GET /batches", nth=2, times=30, **fault)
    submitted(client, submission)
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 1)


def test_an_unreadable_list_leaves_a_create_uncertain(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any
) -> None:
    submission, started = Submission(key="key-1", input_file_id=file_id), clock.now
    emulator.control.fault("POST /batches", kind="lost_answer")
    emulator.control.fault("GET /batches", nth=2, every=1, status=403)
    with pytest.raises(CreateUncertainError, match="The batch may exist: the list cannot be read"):
        submitted(client, submission)
    assert clock.now - started > 3600
    emulator.control.reset()
    submitted(client, submission)
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 1)


# --- a list that is late, short or wrong


EVERY_LIST = [
    Forms(list_lag_seconds=1e6),
    Forms(metadata_dropped=True),
    Forms(metadata_users_only=True),
    Forms(metadata_cut=True),
    Forms(list_oldest_first=True),
    Forms(list_unordered=True),
    Forms(pages_of_twenty=True),
    Forms(pages_of_twenty=True, without_has_more=True),
    Forms(pages_of_twenty=True, after_ignored=True, without_has_more=True),
    Forms(pages_of_twenty=True, second_page_missing=True),
]


@pytest.mark.parametrize("forms", EVERY_LIST, ids=repr)
def test_recorded_batches_are_found_without_the_list(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any
) -> None:
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    clock.advance(40 * DAY)
    file_id = client.upload_file(io.BytesIO(b"{}\n")).id
    first = submit(client, submission := replace(submission, input_file_id=file_id), records, lambda batch: None)
    for _ in range(45):
        client.create_batch(file_id)
    clock.advance(300)
    assert submit(client, submission, records, lambda batch: None).id == first.id
    assert emulator.control.batches_created() == 46


@pytest.mark.parametrize(
    "forms", [each for each in EVERY_LIST if not (each.list_lag_seconds or each.after_ignored)], ids=repr
)
def test_a_partly_unreadable_list_may_stop_a_retry(client: SiliconFlowClient, emulator: Any, sums: Sums) -> None:
    """Where nothing is written down."""
    other = client.upload_file(io.BytesIO(sums(1))).id
    file_id = client.upload_file(io.BytesIO(sums(2))).id
    submission = Submission(key="k" * 64, input_file_id=file_id, is_first_try=True)
    for _ in range(15):
        client.create_batch(other)
    submitted(client, submission)
    for _ in range(40):
        client.create_batch(other)
    retry = replace(submission, is_first_try=False)
    if emulator.options.forms.metadata_dropped or emulator.options.forms.metadata_users_only:
        with pytest.raises(UnsafeSubmitError, match=r"shows no metadata.*clear the task"):
            submitted(client, retry)
    else:
        submitted(client, retry)
    assert emulator.control.batches_created() == 56


@pytest.mark.parametrize("forms", [Forms(pages_of_twenty=True, after_ignored=True)])
def test_an_empty_page_with_more_is_an_error(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    for _ in range(21):
        client.create_batch(file_id)
    with pytest.raises(IncompleteListError, match="more batches than the 20 that it shows"):
        submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert emulator.control.batches_created() == 21


@pytest.mark.parametrize("is_first_try", [True, False])
def test_a_null_list_is_empty_on_first_tries(
    client: SiliconFlowClient, emulator: Any, file_id: str, is_first_try: bool
) -> None:
    emulator.control.fault("GET /batches", status=200, body={"object": "list", "data": None}, every=1)
    submission = Submission(key="key-1", input_file_id=file_id, is_first_try=is_first_try)
    if is_first_try:
        submitted(client, submission)
    else:
        with pytest.raises(UnreadableAnswerError):
            submitted(client, submission)
    assert creates(emulator) == is_first_try


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("months", [1, -1])
def test_a_clock_one_month_off_submits_nothing(
    service: Any, account: SiliconFlowClient, clock: Any, is_listed: bool, months: int
) -> None:
    records = MemoryRecords()
    service.has(id="batch_1", metadata=WANTED.batch_metadata())
    if not is_listed:
        service.unlisted = {"batch_1"}
        record = new_record(WANTED.batch_metadata())
        records.write(msgspec.structs.replace(record, state="created", batch_id="batch_1"))
    clock.advance(months * 31 * DAY)
    assert submit(account, WANTED, records, lambda batch: None).id == "batch_1"
    assert "POST /batches" not in service.requests


@pytest.mark.parametrize("is_written_down", [True, False])
def test_month_old_batches_are_resubmitted_when_cleared(
    service: Any, account: SiliconFlowClient, clock: Any, is_written_down: bool
) -> None:
    """Its results are deleted."""
    records = MemoryRecords()
    service.has(id="batch_1", metadata=WANTED.batch_metadata(), status="completed")
    if is_written_down:
        record = new_record(WANTED.batch_metadata())
        records.write(msgspec.structs.replace(record, state="created", batch_id="batch_1"))
    clock.advance(31 * DAY)
    assert submit(account, WANTED, records, lambda batch: None).id == "batch_1"
    assert submit(account, cleared(WANTED), records, lambda batch: None).id == "batch_new"


def test_a_missing_recorded_batch_stops_a_retry(
    client: SiliconFlowClient, emulator: Any, file_id: str, tmp_path: Any
) -> None:
    """As with a key of another account: only a person can tell that it is to be bought again."""
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    records.write(msgspec.structs.replace(new_record(submission.batch_metadata()), state="created", batch_id="batch_x"))
    with pytest.raises(UnsafeSubmitError, match=r"\(batch_x\) are not in the account of the connection's key"):
        submit(client, submission, records, lambda batch: None)
    assert creates(emulator) == 0
    submit(client, cleared(submission), records, lambda batch: None)
    assert creates(emulator) == 1


def test_a_failing_search_after_the_create_only_warns(
    client: SiliconFlowClient, emulator: Any, file_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.control.fault("GET /batches", nth=2, every=1, status=503)
    submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert "could not list all batches, so a duplicate of batch" in warnings(caplog)[-1]
    assert creates(emulator) == 1


# --- attempts at once


def test_an_older_batch_found_after_creating_wins(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt that created it was slower to be answered, and its batch has the same second and a smaller id."""
    submission = Submission(key="key-1", input_file_id=file_id)
    announced: list[str] = []

    def other_attempt(batch: Batch) -> None:
        announced.append(batch.id)
        while len(announced) == 1 and min(each.id for each in client.list_batches()) == batch.id:
            client.create_batch(file_id, metadata=submission.batch_metadata())

    batch = submit(client, submission, MemoryRecords(), other_attempt)
    by_id = {each.id: each.status for each in client.list_batches()}
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
    """Its own attempt leaves it too: who found it in the meantime must not wait for what is cancelled."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", metadata=mine)
    clock.after(LIST_LAG_SECONDS - 1, lambda: service.has(id="batch_a", metadata=mine))
    announced: list[str] = []
    assert submit(account, WANTED, MemoryRecords(), lambda each: announced.append(each.id)).id == "batch_a"
    assert announced == ["batch_b", "batch_a"]
    assert service.batches["batch_b"]["status"] == "cancelling"


def test_an_older_batch_replaces_a_cancelled_one(service: Any, account: SiliconFlowClient, clock: Any) -> None:
    """It was cancelled in favour of that one, which is no verdict."""
    mine = WANTED.batch_metadata()
    service.has(id="batch_b", metadata=mine, status="cancelled")
    clock.after(LIST_LAG_SECONDS - 1, lambda: service.has(id="batch_a", metadata=mine))
    assert submitted(account, WANTED).id == "batch_a"


def test_an_unlisted_own_batch_wins_over_younger_ones(service: Any, account: SiliconFlowClient) -> None:
    """Two attempts that each see only the other's batch would cancel both."""
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
    assert [each for each in service.requests if each.startswith("POST")] == []
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
        f". To cancel: client.cancel_batch('{other.id}')"
    ]
    assert client.get_batch(other.id).status == "in_progress"


@pytest.mark.parametrize("times", [1, 20])
def test_a_cancel_that_fails_is_tried_again(
    client: SiliconFlowClient, emulator: Any, file_id: str, clock: Any, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    """Both are billed until then. After an hour, the older one is waited for all the same."""
    emulator.control.plan(stuck="in_queue", every=1)
    submission = Submission(key="key-1", input_file_id=file_id)
    older = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    clock.advance(1)
    younger = client.create_batch(file_id, metadata=submission.batch_metadata()).id
    emulator.control.fault("POST /batches/{id}/cancel", status=403, times=times)
    assert submitted(client, submission).id == older
    assert f"could not cancel batch {younger}, a duplicate that is billed" in caplog.text
    assert client.get_batch(younger).status == ("cancelling" if times == 1 else "in_queue")


# --- all of a run


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
    assert {each.id for each in find_running_by_dag_run(client, "run-1")[0]} == ours


def test_dag_run_search_requests_items_without_metadata(service: Any, account: SiliconFlowClient) -> None:
    service.hidden = ("metadata",)
    service.has(id="batch_1", metadata={"airflow_run": "run-1"}, created_at=CREATED)
    service.has(id="batch_2", metadata={"airflow_run": "run-1"}, status="completed", created_at=CREATED - 1)
    service.has(id="batch_3", metadata={"airflow_run": "run-2"}, created_at=CREATED - 2)
    assert [each.id for each in find_running_by_dag_run(account, "run-1")[0]] == ["batch_1"]
    assert service.requests == ["GET /batches", "GET /batches/batch_1", "GET /batches/batch_3"]
