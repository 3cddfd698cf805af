from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api import errors
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.waiting.batch_wait import (
    BatchWait,
    deadline_of,
    describe_end,
    is_temporary,
    next_pause,
    pause_before_poll,
    poll,
    seconds_until_all_end,
    wait_ends,
)

Make = Callable[..., Batch]
At = Callable[[float], pendulum.DateTime]
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600
BUSY = errors.ServerError("busy", status=503)
REFUSED = errors.AuthenticationError("Invalid token", status=401)
URL = "https://bucket.example/out.jsonl?Signature=s3cret"


# --- the schedule


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (-5, 10),
        (0, 10),
        (199, 10),
        (200, 10),
        (400, 20),
        (HOUR, 180),
        (6000, 300),
        (DAY - 400, 300),
        (DAY - 300, 300),
        (DAY - 100, 101),
        (DAY - 1, 2),
        (DAY, 10),
        (DAY + 1800, 10),
    ],
)
def test_polls_follow_age_and_expiry(batch: Make, at: At, age: float, pause: float) -> None:
    assert pause_before_poll(batch(), at(age), None) == pytest.approx(pause)


@pytest.mark.parametrize("fields", [{"finalizing_at": HOUR}, {"cancelling_at": HOUR}])
def test_a_batch_about_to_end_is_polled_often(batch: Make, at: At, fields: dict[str, int]) -> None:
    assert pause_before_poll(batch(**fields), at(2 * HOUR), None) == 10


def test_an_unknown_batch_is_polled_often(at: At) -> None:
    assert pause_before_poll(None, at(HOUR), None) == 10
    assert pause_before_poll(Batch("batch_1", "in_queue"), at(HOUR), None) == 10


def test_a_batch_without_an_expiry_follows_its_age(batch: Make, at: At) -> None:
    assert pause_before_poll(Batch.from_json({"id": "b", "created_at": at(0).timestamp()}), at(DAY), None) == 300


@pytest.mark.parametrize("age", [0, HOUR, DAY, 2 * DAY])
def test_a_poll_interval_replaces_the_schedule(batch: Make, at: At, age: int) -> None:
    assert pause_before_poll(batch(finalizing_at=HOUR), at(age), 42.5) == 42.5
    assert pause_before_poll(None, at(age), 42.5) == 42.5


def test_a_day_costs_about_360_polls(batch: Make, at: At) -> None:
    age, polls = 0.0, 0
    while age < DAY:
        pause = pause_before_poll(batch(), at(age), None)
        assert 0 < pause <= 300
        age, polls = age + pause, polls + 1
    assert 330 <= polls <= 390
    assert age - DAY <= 2


# --- the deadline


def test_the_deadline_is_one_hour_after_expiry(batch: Make, at: At) -> None:
    assert deadline_of([batch()], None, at(5)) == at(DAY + HOUR)
    assert deadline_of([batch(), batch(expires_at=3 * DAY), batch()], None, at(5)) == at(3 * DAY + HOUR)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        ({"completion_window": "48h", "created_at": 1_800_000_000}, 2 * DAY),
        ({"created_at": 1_800_000_000}, DAY),
        ({"completion_window": 86400, "created_at": 1_800_000_000}, DAY),
        ({"completion_window": "soon"}, DAY + 5),
        ({"completion_window": "48h"}, 2 * DAY + 5),
    ],
)
def test_an_unknown_expiry_follows_from_the_window(at: At, data: dict[str, Any], seconds: int) -> None:
    batch = Batch.from_json({"id": "b", **data})
    assert deadline_of([batch], None, at(5)) == at(seconds + HOUR)


def test_a_timeout_runs_from_the_earliest_creation(batch: Make, at: At) -> None:
    younger, unknown = batch(created_at=500), Batch("batch_2", "in_queue")
    assert deadline_of([younger, batch()], timedelta(hours=2), at(900)) == at(2 * HOUR)
    assert deadline_of([younger, unknown], timedelta(hours=2), at(900)) == at(500 + 2 * HOUR)
    assert deadline_of([unknown], timedelta(hours=2), at(900)) == at(900 + 2 * HOUR)


# --- the state of a wait


def test_a_wait_continues_until_its_batch_ends(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1")
    assert wait.state(at(0)) == "running"
    wait.record_batch(batch("in_queue"))
    assert wait.state(at(10)) == "running"
    wait.record_batch(batch("pondering"))
    assert wait.state(at(20)) == "running"
    wait.record_batch(batch("completed"))
    assert wait.state(at(30)) == "over"


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_an_ended_batch_is_over_after_the_deadline(batch: Make, at: At, status: str) -> None:
    wait = BatchWait("batch_1", at(10), batch=batch(status))
    assert wait.state(at(999)) == "over"


def test_a_wait_ends_at_its_deadline(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(100), batch=batch())
    assert [wait.state(at(seconds)) for seconds in (99, 100, 101)] == ["running", "timeout", "timeout"]
    assert BatchWait("batch_1", at(100)).state(at(100)) == "timeout"


def test_an_execution_timeout_ends_a_wait_too(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(100), stop_at=at(60), batch=batch())
    assert [wait.state(at(seconds)) for seconds in (59, 60, 100)] == ["running", *["execution_timeout"] * 2]
    assert wait.pause(at(55)) == 5
    (end,) = wait_ends([wait], at(60)) or [None]
    assert end is not None
    assert end.deadline == "2027-01-15 08:01:00"
    assert BatchWait("batch_1", at(60), stop_at=at(100)).state(at(100)) == "timeout"


def test_waits_end_by_themselves_at_their_last_moment(at: At) -> None:
    waits = [BatchWait("a", at(100)), BatchWait("b", at(300), stop_at=at(200))]
    assert [seconds_until_all_end(waits, at(seconds)) for seconds in (0, 150, 200)] == [200, 50, 0]
    assert seconds_until_all_end([*waits, BatchWait("c")], at(0)) == inf


def test_the_first_poll_sets_a_missing_deadline(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1")
    assert wait.state(at(9 * DAY)) == "running"
    wait.record_batch(batch())
    assert wait.state(at(DAY + HOUR - 1)) == "running"
    assert wait.deadline == at(DAY + HOUR)
    assert wait.state(at(DAY + HOUR)) == "timeout"


HEALING: list[SiliconFlowError] = [
    errors.ServerError("x"),
    errors.RateLimitError("x"),
    errors.ConnectionFailedError("x"),
    errors.AnswerLostError("x"),
    errors.IncompleteBodyError("x"),
    errors.UnreadableAnswerError("x"),
]
HOPELESS: list[SiliconFlowError] = [
    errors.AuthenticationError("x"),
    errors.PermissionDeniedError("x"),
    errors.NotFoundError("x"),
    errors.BadRequestError("x"),
    errors.CertificateError("x"),
    errors.InvalidRequestError("x"),
]


@pytest.mark.parametrize("error", HEALING, ids=repr)
def test_an_outage_ends_no_wait_before_the_deadline(batch: Make, at: At, error: SiliconFlowError) -> None:
    assert is_temporary(error)
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    for seconds in range(0, DAY, 300):
        wait.record_error(error, at(seconds))
        assert wait.state(at(seconds)) == "running"
    assert wait.state(at(DAY)) == "timeout"


@pytest.mark.parametrize("error", HOPELESS, ids=repr)
def test_permanent_errors_end_a_wait_after_one_hour(batch: Make, at: At, error: SiliconFlowError) -> None:
    assert not is_temporary(error)
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    for seconds, state in [(0, "running"), (300, "running"), (3599, "running"), (3600, "error")]:
        wait.record_error(error, at(seconds))
        assert wait.state(at(seconds)) == state


def test_an_answer_ends_the_hour(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    wait.record_error(REFUSED, at(0))
    wait.record_batch(batch())
    wait.record_error(REFUSED, at(3599))
    assert wait.state(at(3650)) == "running"
    assert wait.state(at(7199)) == "error"


def test_the_hour_starts_with_the_permanent_error(batch: Make, at: At) -> None:
    """After an outage, a service may reject a valid key for a moment."""
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    for seconds in range(0, HOUR, 300):
        wait.record_error(BUSY, at(seconds))
    wait.record_error(REFUSED, at(HOUR))
    assert wait.state(at(HOUR)) == "running"
    wait.record_error(REFUSED, at(2 * HOUR))
    assert wait.state(at(2 * HOUR)) == "error"


def test_an_outage_within_the_hour_begins_it_again(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    for error, seconds in [(REFUSED, 0), (BUSY, 300), (REFUSED, 700)]:
        wait.record_error(error, at(seconds))
    assert wait.state(at(HOUR)) == "running"
    assert wait.state(at(HOUR + 700)) == "error"


def test_pauses_grow_while_polling_fails(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    wait.record_error(BUSY, at(0))
    assert [wait.pause(at(seconds)) for seconds in (0, 30, 60, 240, 3000)] == [10, 30, 60, 240, 300]
    wait.record_batch(batch())
    assert wait.pause(at(100)) == 10


def test_pauses_end_at_the_deadline(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(100), batch=batch(), poll_interval=60)
    assert [wait.pause(at(seconds)) for seconds in (10, 70, 100, 200)] == [60, 30, 0, 0]


# --- when a poll is due


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 180), (0.5, 171), (1.0, 162)])
def test_jitter_shortens_pauses_by_ten_percent(batch: Make, at: At, jitter: float, pause: float) -> None:
    assert BatchWait("batch_1", batch=batch()).pause(at(HOUR), jitter) == pytest.approx(pause)
    assert BatchWait("batch_1", batch=batch(), poll_interval=180).pause(at(0), jitter) == pytest.approx(pause)


def test_jitter_does_not_move_the_deadline(batch: Make, at: At) -> None:
    assert BatchWait("batch_1", at(100), batch=batch(), poll_interval=60).pause(at(70), 1.0) == 30


def test_pauses_count_from_the_start_of_polls(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    assert wait.seconds_until_due(at(HOUR).timestamp()) == inf
    began = at(HOUR).timestamp()
    wait.schedule(at(HOUR), began)
    assert wait.seconds_until_due(began) == pytest.approx(180)
    assert wait.seconds_until_due(began + 100) == pytest.approx(80)
    assert wait.seconds_until_due(began + 100, early=0.25) == pytest.approx(35)
    assert wait.seconds_until_due(began + 135, early=0.25) == 0
    assert wait.seconds_until_due(began + 200) == 0


def test_a_clock_set_back_delays_no_poll(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1", at(DAY), batch=batch())
    wait.schedule(at(HOUR), at(HOUR).timestamp())
    assert wait.seconds_until_due(at(0).timestamp()) == 0


def test_nothing_is_due_once_a_wait_has_ended(batch: Make, at: At) -> None:
    for wait in (BatchWait("batch_1", at(DAY), batch=batch("completed")), BatchWait("batch_1", at(9), batch=batch())):
        wait.schedule(at(10), at(10).timestamp())
        assert wait.due_at is None
        assert wait.seconds_until_due(at(11).timestamp()) == inf


# --- many waits


def answering(answers: dict[str, Any], asked: list[str]) -> Callable[[str], Batch]:
    def get_batch(batch_id: str) -> Batch:
        asked.append(batch_id)
        answer = answers[batch_id]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Batch)
        return answer

    return get_batch


def test_each_running_batch_is_polled_once(batch: Make, at: At) -> None:
    waits = [BatchWait("a"), BatchWait("b"), BatchWait("c", batch=batch("completed", id="c"))]
    asked: list[str] = []
    poll(waits, answering({"a": batch(id="a"), "b": BUSY}, asked), lambda: at(7))
    assert asked == ["a", "b"]
    assert [wait.batch and wait.batch.id for wait in waits] == ["a", None, "c"]
    assert (waits[1].error, waits[1].failing_since) == (BUSY, at(7))


def test_a_batch_that_ended_unpolled_is_over(batch: Make, at: At) -> None:
    wait = BatchWait("a", at(100), batch=batch())
    poll([wait], answering({"a": batch("completed")}, []), lambda: at(500))
    assert wait.state(at(500)) == "over"


def test_other_exceptions_are_not_swallowed(at: At) -> None:
    with pytest.raises(ZeroDivisionError):
        poll([BatchWait("a")], answering({"a": ZeroDivisionError()}, []), lambda: at(0))


def test_the_next_pause_is_the_shortest(batch: Make, at: At) -> None:
    waits = [
        BatchWait("a", at(2 * DAY), batch=batch()),
        BatchWait("b", at(2 * DAY), batch=batch(created_at=HOUR)),
        BatchWait("c", at(2 * DAY), batch=batch("completed", created_at=2 * HOUR)),
    ]
    assert next_pause(waits, at(HOUR + 1000)) == 50


def test_waits_have_ended_when_none_is_running(batch: Make, at: At) -> None:
    over, late = BatchWait("a", at(100), batch=batch("completed")), BatchWait("b", at(100))
    refused = BatchWait("c", at(DAY))
    refused.record_error(REFUSED, at(0))
    late.record_error(BUSY, at(0))
    assert wait_ends([over, late, refused], at(99)) is None
    assert wait_ends([over, late, refused], at(100)) is None
    ends = wait_ends([over, late, refused], at(HOUR))
    assert ends is not None
    assert [(end.batch_id, end.state, end.error) for end in ends] == [
        ("a", "over", None),
        ("b", "timeout", "busy (status 503)"),
        ("c", "error", "Invalid token (status 401)"),
    ]
    assert ends[0].batch is over.batch
    assert ends[1].deadline == "2027-01-15 08:01:40"


# --- the end


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"status": "completed"}, "batch batch_1 completed"),
        (
            {
                "status": "completed",
                "completed_at": 7500,
                "request_counts": {"total": 4000, "completed": 3999, "failed": 1},
            },
            "batch batch_1 completed after 2h 5m 0s: 3,999 of 4,000 requests answered, 1 failed",
        ),
        (
            {"status": "cancelled", "cancelled_at": 60, "request_counts": {"total": 4, "completed": 1, "failed": 1}},
            "batch batch_1 cancelled after 1m 0s: 1 of 4 requests answered, 1 failed, 2 not run",
        ),
        (
            {"status": "failed", "failed_at": 10, "errors": ["line 1: not JSON", "line 2: not JSON"]},
            "batch batch_1 failed after 10s.\nErrors of the service: line 1: not JSON; line 2: not JSON",
        ),
        ({"status": "pondering", "expired_at": DAY}, "batch batch_1 expired after 1d 0h 0m"),
        ({"status": "failed", "failed_at": 0}, "batch batch_1 failed"),
    ],
)
def test_an_end_is_described_in_one_sentence(batch: Make, fields: dict[str, Any], sentence: str) -> None:
    assert describe_end(batch(**fields)) == sentence


def test_only_the_first_ten_errors_are_shown(batch: Make) -> None:
    sentence = describe_end(batch("failed", errors=[f"line {number}" for number in range(1, 14)]))
    assert sentence.endswith("line 8; line 9; and 4 more")


def test_the_last_calendar_day_has_a_deadline(batch: Make, at: At) -> None:
    wait = BatchWait("batch_1")
    wait.record_batch(batch(expires_at=253402300799 - 1_800_000_000))
    assert wait.state(at(0)) == "running"
    assert wait.deadline == at(DAY + 3600)
