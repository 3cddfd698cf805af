"""Creates whose response was lost, and lists that are late, incomplete or wrong."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import (
    CreateUncertainError,
    IncompleteListError,
    RateLimitError,
    UnreadableAnswerError,
)
from siliconflow_provider.batches.creation import (
    LIST_LAG_SECONDS,
    SEARCH_PAUSES,
    submit,
)
from siliconflow_provider.batches.finder import BatchFinder, UnsafeSubmitError
from siliconflow_provider.batches.records import MemoryRecords, new_record
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.emulator.forms import Forms
from tests.submissions import DAY, WANTED, Sums, cleared, creates, submitted, warnings

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
def test_a_create_with_lost_response_is_found(
    client: SiliconFlowClient, emulator: Any, file_id: str, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    emulator.control.fault("POST /batches", **fault)
    batch = submitted(client, Submission(key="key-1", input_file_id=file_id))
    assert (emulator.control.batches_created(), creates(emulator)) == (1, 1)
    assert "may have been created" in warnings(caplog)[0]
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
    """A retry with the records creates no more batches; without them, the number of creates is limited."""
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
    assert [item.state for item in records.read()] == ["sent", "created"]


@pytest.mark.parametrize("forms", [Forms(list_lag_seconds=10)])
def test_a_killed_attempts_batch_is_found_once_listed(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    records.write(new_record(submission.batch_metadata()))
    batch = client.create_batch(file_id, metadata=submission.batch_metadata())
    assert submit(client, submission, records, lambda batch: None).id == batch.id
    assert (creates(emulator), records.read()[0].batch_id) == (1, batch.id)


def test_finding_a_killed_attempts_batch_records_it(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    """A later list may lack it again."""
    submission, records = Submission(key="key-1", input_file_id=file_id), MemoryRecords()
    records.write(new_record(submission.batch_metadata()))
    batch = client.create_batch(file_id, metadata=submission.batch_metadata())
    seen = BatchFinder(client, submission, records).find_and_record()
    assert (seen.open_records, records.read()[0].batch_id) == ([], batch.id)
    emulator.control.fault("GET /batches", status=200, body={"data": []}, every=1)
    assert [item.id for item in BatchFinder(client, submission, records).find_and_record().batches] == [batch.id]


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
    "forms", [item for item in EVERY_LIST if not (item.list_lag_seconds or item.after_ignored)], ids=repr
)
def test_a_partly_unreadable_list_may_stop_a_retry(client: SiliconFlowClient, emulator: Any, sums: Sums) -> None:
    """Nothing is recorded here."""
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
        with pytest.raises(UnsafeSubmitError, match=r"(?s)shows no metadata.*clear the task"):
            submitted(client, retry)
    else:
        submitted(client, retry)
    assert emulator.control.batches_created() == 56


@pytest.mark.parametrize("forms", [Forms(pages_of_twenty=True, after_ignored=True)])
def test_an_empty_page_with_more_is_an_error(client: SiliconFlowClient, emulator: Any, file_id: str) -> None:
    for _ in range(21):
        client.create_batch(file_id)
    with pytest.raises(IncompleteListError, match="lists only 20 batches and says that there are more"):
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
    """The service has deleted its results."""
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
    """The key may belong to another account, so only a user can decide to resubmit."""
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
