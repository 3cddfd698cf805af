"""The state of a batch at the times where it changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from siliconflow_provider.emulator.state import (
    Batch,
    Check,
    Counts,
    State,
    Timings,
    counts,
    needs_check,
    state_at,
)

BATCH = Batch(
    id="batch_a",
    input_file_id="file-a",
    file_name="a.jsonl",
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata=None,
    model=None,
    created_at=0.0,
    window_seconds=1000,
    timings=Timings(queue=10, run=100, finalize=5, cancel=20),
    output_id="file-o",
    error_id="file-e",
    check=Check(total=10, bad=(2, 7)),
)


@pytest.mark.parametrize(
    ("now", "status", "numbers"),
    [
        (0, "in_queue", None),
        (9.9, "in_queue", None),
        (10, "in_progress", (0, 0)),
        (29.9, "in_progress", (1, 0)),
        (40, "in_progress", (2, 1)),
        (109.9, "in_progress", (7, 2)),
        (110, "finalizing", (8, 2)),
        (115, "completed", (8, 2)),
        (10_000, "completed", (8, 2)),
    ],
)
def test_undisturbed_batch_completes(now: float, status: str, numbers: tuple[int, int] | None) -> None:
    state = state_at(BATCH, now)
    assert state.status == status
    assert counts(BATCH, state) == (Counts(10, *numbers) if numbers else None)


def test_times_do_not_depend_on_the_poll() -> None:
    assert state_at(BATCH, 999) == State("completed", 10, in_progress_at=10, finalizing_at=110, completed_at=115)


def test_phases_of_zero_seconds_end_at_once() -> None:
    assert state_at(replace(BATCH, timings=Timings(0, 0, 0, 0)), 0).status == "completed"


def test_bad_input_fails_after_the_queue() -> None:
    bad = replace(BATCH, check=Check(1, errors=("line 1: not JSON",)))
    assert state_at(bad, 9.9).status == "in_queue"
    assert state_at(bad, 10) == State("failed", failed_at=10)
    assert counts(bad, state_at(bad, 10)) is None


@pytest.mark.parametrize(
    ("window", "finished", "in_progress_at", "numbers"),
    [(60, 5, 10, (4, 6)), (109, 9, 10, (7, 3)), (10, 0, None, (0, 10)), (5, 0, None, (0, 10))],
)
def test_batch_expires_with_its_finished_requests(
    window: int, finished: int, in_progress_at: float | None, numbers: tuple[int, int]
) -> None:
    short = replace(BATCH, window_seconds=window)
    state = state_at(short, window)
    assert state == State("expired", finished, in_progress_at=in_progress_at, expired_at=window)
    assert counts(short, state) == Counts(10, *numbers)
    assert state_at(short, window - 0.1).status != "expired"


def test_run_that_ends_with_its_window_completes() -> None:
    assert state_at(replace(BATCH, window_seconds=110), 200).status == "completed"


CANCELLED: list[tuple[float, dict[str, Any], Counts | None]] = [
    (4, {}, None),
    (60, {"finished": 5, "in_progress_at": 10}, Counts(10, 4, 1)),
    (111, {"finished": 10, "in_progress_at": 10, "finalizing_at": 110}, Counts(10, 8, 2)),
]


@pytest.mark.parametrize(("cancel_at", "before", "numbers"), CANCELLED)
def test_cancelled_batch_keeps_its_finished_requests(
    cancel_at: float, before: dict[str, Any], numbers: Counts | None
) -> None:
    batch = replace(BATCH, cancel_at=cancel_at)
    cancelling = state_at(batch, cancel_at)
    assert cancelling == State("cancelling", cancelling_at=cancel_at, **before)
    assert state_at(batch, cancel_at + 19.9) == cancelling
    cancelled = state_at(batch, cancel_at + 20)
    assert cancelled == replace(cancelling, status="cancelled", cancelled_at=cancel_at + 20)
    assert counts(batch, cancelled) == numbers


@pytest.mark.parametrize(
    ("cancel_at", "now", "needed"),
    [(None, 9.9, False), (None, 10, True), (4, 10, False), (4, 500, False), (10, 10, True), (60, 60, True)],
)
def test_input_is_read_after_the_queue(cancel_at: float | None, now: float, needed: bool) -> None:
    assert needs_check(replace(BATCH, check=None, cancel_at=cancel_at), now) == needed
    assert not needs_check(replace(BATCH, cancel_at=cancel_at), now)
