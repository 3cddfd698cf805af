"""Compute the state of a batch from its record and the current time."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import Any

from siliconflow_provider.emulator.plans import Plan
from siliconflow_provider.emulator.statuses import Status


@dataclass(frozen=True)
class Timings:
    """Durations of a batch's phases in seconds."""

    queue: float
    run: float
    finalize: float
    cancel: float


@dataclass(frozen=True)
class Check:
    """The result of the check of an input file.

    `errors` fail the whole batch. `bad` has the positions of requests that fail alone, `missing` those of requests that
    are not counted; positions start at 0 and ascend.
    """

    total: int
    bad: tuple[int, ...] = ()
    errors: tuple[Any, ...] = ()
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """The record of a batch. `check` is None until the batch has left the queue."""

    id: str
    input_file_id: str
    file_name: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    model: str | None
    created_at: float
    window_seconds: int
    timings: Timings
    output_id: str
    error_id: str
    cancel_at: float | None = None
    check: Check | None = None
    plan: Plan = field(default_factory=Plan)

    @property
    def expires_at(self) -> float:
        """The end of the completion window."""
        return self.created_at + self.window_seconds

    @property
    def leaves_queue_at(self) -> float:
        """The time at which the input file is read: the start of the run, or an earlier end of the window."""
        if self.plan.stuck == "in_queue":
            return math.inf
        return min(self.created_at + self.timings.queue, self.expires_at)


@dataclass(frozen=True)
class State:
    """A batch's status and times at a moment. `finished` counts requests in file order."""

    status: Status
    finished: int | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None

    @property
    def over_at(self) -> float | None:
        """The time at which the batch ended, None before."""
        ends = (self.completed_at, self.failed_at, self.expired_at, self.cancelled_at)
        return next((end for end in ends if end is not None), None)


@dataclass(frozen=True)
class Counts:
    """The request counts of a batch at a moment."""

    total: int
    completed: int
    failed: int


def needs_check(batch: Batch, now: float) -> bool:
    """Return True if the input file must be read to compute the state at `now`."""
    if batch.check is not None or now < batch.leaves_queue_at:
        return False
    return batch.cancel_at is None or batch.cancel_at >= batch.leaves_queue_at


def state_at(batch: Batch, now: float) -> State:
    """Return the state at `now`. The batch must have its check if `needs_check` returns True."""
    if batch.cancel_at is None or now < batch.cancel_at:
        return _undisturbed(batch, now)
    before = _undisturbed(batch, batch.cancel_at)
    return _cancelled(batch, before, batch.cancel_at, now)


def _undisturbed(batch: Batch, now: float) -> State:
    """Return the state at `now` of a batch that is not cancelled."""
    if now < batch.leaves_queue_at:
        return State("in_queue")
    if batch.check is None:
        raise ValueError(f"the input of {batch.id} has not been checked")
    if batch.check.errors:
        return State("failed", failed_at=batch.leaves_queue_at)
    started = batch.created_at + batch.timings.queue
    ran = math.inf if batch.plan.stuck == "in_progress" else started + batch.timings.run
    completed = math.inf if batch.plan.stuck == "finalizing" else ran + batch.timings.finalize
    if batch.expires_at < ran < math.inf and now >= batch.expires_at:
        done = _finished(batch, batch.check, batch.expires_at)
        begun = started if started < batch.expires_at else None
        return State("expired", done, in_progress_at=begun, expired_at=batch.expires_at)
    if now < ran:
        return State("in_progress", _finished(batch, batch.check, now), in_progress_at=started)
    running = State("in_progress", _finished(batch, batch.check, ran), in_progress_at=started)
    if batch.plan.end == "expired":
        return replace(running, status="expired", expired_at=ran)
    if batch.plan.end == "cancelled":
        return _cancelled(batch, running, ran, now)
    finalizing = replace(running, status="finalizing", finalizing_at=ran)
    return finalizing if now < completed else replace(finalizing, status="completed", completed_at=completed)


def _cancelled(batch: Batch, before: State, cancel_at: float, now: float) -> State:
    """Return the state at `now` of a batch that was cancelled in the state `before`."""
    cancelling = replace(before, status="cancelling", cancelling_at=cancel_at)
    cancelled_at = math.inf if batch.plan.stuck == "cancelling" else cancel_at + batch.timings.cancel
    return cancelling if now < cancelled_at else replace(cancelling, status="cancelled", cancelled_at=cancelled_at)


def _finished(batch: Batch, check: Check, now: float) -> int:
    """Return the number of requests that have been run at `now`."""
    elapsed = now - batch.created_at - batch.timings.queue
    planned = batch.plan.run_of(check.total)
    if elapsed < 0:
        return 0
    if elapsed >= batch.timings.run:
        return planned
    return int(planned * elapsed / batch.timings.run)


def counts(batch: Batch, state: State) -> Counts | None:
    """Return the batch's request counts, or None if no request was started."""
    if batch.check is None or state.finished is None:
        return None
    bad, missing = batch.check.bad, batch.check.missing
    failed = bisect_left(sorted({*bad} - {*missing}), state.finished)
    completed = state.finished - failed - bisect_left(missing, state.finished)
    if state.status == "expired":
        failed = batch.check.total - completed - len(missing)
    return Counts(batch.check.total, completed, failed)
