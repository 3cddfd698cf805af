from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api import errors
from siliconflow_provider.api.models import Batch
from siliconflow_provider.waiting.batch_wait import BatchWait
from siliconflow_provider.waiting.progress import ProgressLog, describe_progress, progress_of

Make = Callable[..., Batch]
At = Callable[[float], pendulum.DateTime]
BUSY = errors.ServerError("busy", status=503)
REFUSED = errors.AuthenticationError("Invalid token", status=401)


def counts(done: int, total: int = 100, failed: int = 0) -> dict[str, int]:
    return {"total": total, "completed": done - failed, "failed": failed}


@pytest.fixture
def wait() -> BatchWait:
    return BatchWait("batch_1")


@pytest.fixture
def said(wait: BatchWait, at: At) -> Callable[..., list[bool]]:
    """Return at which seconds the log of one wait has a new line."""
    log = ProgressLog()
    return lambda *moments: [bool(log.next_log_lines([wait], at(moment))) for moment in moments]


def test_changes_are_logged_and_otherwise_once_hourly(batch: Make, wait: BatchWait, said: Any) -> None:
    assert said(0) == [False]
    wait.record_batch(batch("in_queue"))
    assert said(0, 10, 3599, 3600, 3610, 7200) == [True, False, False, True, False, True]
    wait.record_batch(batch("in_progress"))
    assert said(7210, 7220) == [True, False]


def test_each_quarter_is_logged_once(batch: Make, wait: BatchWait, said: Any) -> None:
    logged = []
    for done in (*range(60), 40, *range(60, 101)):
        wait.record_batch(batch(request_counts=counts(done)))
        logged += [done] if said(0) == [True] else []
    assert logged == [0, 25, 50, 75, 100]


def test_an_outage_is_logged_once_an_hour(batch: Make, at: At, wait: BatchWait, said: Any) -> None:
    wait.record_batch(batch())
    assert said(0) == [True]
    wait.record_error(BUSY, at(10))
    line = "polling batch batch_1 failed, will keep trying: busy (status 503)"
    assert ProgressLog().next_log_lines([wait], at(10)) == [line]
    assert said(10) == [True]
    wait.record_error(errors.ServerError("still busy"), at(20))
    assert said(20, 3610) == [False, True]
    wait.record_error(REFUSED, at(3620))
    assert said(3620) == [True]
    wait.record_batch(batch())
    assert said(3630) == [True]


def test_several_waits_share_one_log_line(batch: Make, at: At) -> None:
    waits, log = [BatchWait("a", batch=batch("in_queue")), BatchWait("b")], ProgressLog()
    assert log.next_log_lines(waits, at(0)) == ["2 batches: 1 in_queue, 1 not seen yet"]
    assert log.next_log_lines(waits, at(3599)) == []
    assert log.next_log_lines(waits, at(3600)) == ["2 batches: 1 in_queue, 1 not seen yet"]
    for wait in waits:
        wait.record_batch(batch(request_counts=counts(5, 9, failed=1), in_progress_at=0))
    line = "2 batches: 2 in_progress; 10 of 18 requests done (55%), 2 of them failed, about 48m 1s left"
    assert log.next_log_lines(waits, at(3601)) == [line]
    waits[1].record_error(BUSY, at(3602))
    line = (
        "2 batches: 2 in_progress; 10 of 18 requests done (55%), 2 of them failed, about 48m 2s left; "
        "polling 1 of them failed, will keep trying: busy (status 503)"
    )
    assert [log.next_log_lines(waits, at(number)) for number in (3602, 3603)] == [[line], []]


def test_each_end_is_logged_once(batch: Make, at: At) -> None:
    waits, log = [BatchWait(name, batch=batch(id=name)) for name in "abc"], ProgressLog()
    assert log.next_log_lines(waits, at(0)) == ["3 batches: 3 in_progress"]
    waits[0].record_batch(batch("completed", id="a"))
    lines = log.next_log_lines(waits, at(1))
    assert lines == ["1 batch completed: a", "3 batches: 1 completed, 2 in_progress"]
    waits[1].record_batch(batch("failed", id="b", errors=[{"message": "no such model"}]))
    assert log.next_log_lines(waits, at(2))[0] == "batch b failed.\nErrors of the service: no such model"
    waits[2].record_batch(batch("completed", id="c"))
    assert log.next_log_lines(waits, at(3)) == ["1 batch completed: c", "3 batches: 2 completed, 1 failed"]
    assert log.next_log_lines(waits, at(4)) == []


def test_quarters_need_all_counts(batch: Make, at: At) -> None:
    waits = [BatchWait("a", batch=batch(request_counts=counts(90))), BatchWait("b")]
    assert progress_of([wait.batch for wait in waits], at(0)).quarter == 0
    waits[1].record_batch(batch(request_counts=counts(0)))
    assert progress_of([wait.batch for wait in waits], at(0)).quarter == 1


def test_the_slowest_batch_says_what_is_left(batch: Make, at: At) -> None:
    batches = [batch(in_progress_at=0, request_counts=counts(done)) for done in (25, 50)]
    assert progress_of(batches, at(100)).seconds_left == 300
    assert progress_of([*batches, batch("in_queue")], at(100)).seconds_left is None


def test_progress_is_json(batch: Make, at: At) -> None:
    known = batch(in_progress_at=0, request_counts=counts(50, failed=2))
    assert progress_of([known], at(100)).to_json() == {
        "batches": {"in_progress": 1}, "requests": 100, "done": 50, "failed": 2, "seconds_left": 100,
    }  # fmt: skip
    assert progress_of([known, None], at(100)).to_json() == {
        "batches": {"in_progress": 1, "not seen yet": 1}, "requests": None, "done": 50, "failed": 2,
        "seconds_left": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "now", "line"),
    [
        ({"status": "in_queue"}, 0, "batch batch_1 is in_queue, 0s since its creation"),
        (
            {"in_progress_at": 100, "request_counts": {"total": 4000, "completed": 999, "failed": 1}},
            1100,
            "batch batch_1 is in_progress, 1,000 of 4,000 requests done, 1 of them failed, "
            "18m 20s since its creation, about 50m 0s left",
        ),
        (
            {"in_progress_at": 100, "request_counts": {"total": 4, "completed": 0, "failed": 0}},
            1100,
            "batch batch_1 is in_progress, 0 of 4 requests done, 18m 20s since its creation",
        ),
        (
            {
                "status": "completed",
                "in_progress_at": 0,
                "completed_at": 100,
                "request_counts": {"total": 4, "completed": 2, "failed": 0},
            },
            100,
            "batch batch_1 is completed, 2 of 4 requests done, 1m 40s since its creation",
        ),
    ],
)
def test_progress_is_one_log_line(batch: Make, at: At, fields: dict[str, Any], now: int, line: str) -> None:
    assert describe_progress(batch(**fields), at(now)) == line


def test_progress_without_times_is_the_status() -> None:
    assert describe_progress(Batch("batch_1", "in_queue"), pendulum.now("UTC")) == "batch batch_1 is in_queue"
