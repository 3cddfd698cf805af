"""Decide when to poll a batch again, when the wait for it ends, and with which outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import inf

import pendulum

from siliconflow_provider.api.durations import format_duration, parse_completion_window
from siliconflow_provider.api.errors import (
    CertificateError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
    ServiceError,
    SiliconFlowError,
)
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import GIVE_UP_AFTER
from siliconflow_provider.api.service_texts import first_errors
from siliconflow_provider.wording import counted

AGE_SHARE = 0.05
SHORTEST_PAUSE = 10.0
LONGEST_PAUSE = 300.0
GRACE_AFTER_EXPIRY = timedelta(hours=1)
JITTER = 0.1
EARLY_POLL_SHARE = 0.25


def deadline_of(batches: Sequence[Batch], timeout: timedelta | None, now: pendulum.DateTime) -> pendulum.DateTime:
    """Return the moment at which the wait for batches ends.

    :param timeout: time from the creation of the first batch; None means one hour after the expiry of the last batch
    """
    if timeout is not None:
        return min(batch.timing.created_at or now for batch in batches) + timeout
    expiries = (batch.timing.expires_at or (batch.timing.created_at or now) + _window(batch) for batch in batches)
    return max(expiries) + GRACE_AFTER_EXPIRY


def _window(batch: Batch) -> timedelta:
    try:
        return parse_completion_window(batch.completion_window or "24h")
    except InvalidRequestError:
        return timedelta(hours=24)


def pause_before_poll(batch: Batch | None, now: pendulum.DateTime, poll_interval: float | None) -> float:
    """Return the seconds until a batch should be polled again.

    By default 5% of its age, from 10 s to 300 s; 10 s while it is finalizing or being cancelled. The pause never
    extends past the batch's expiry.

    :param batch: the batch as last polled; None before the first successful poll
    :param poll_interval: a fixed pause in seconds instead of this schedule
    """
    if poll_interval is not None:
        return poll_interval
    if batch is None or (timing := batch.timing).created_at is None:
        return SHORTEST_PAUSE
    if timing.finalizing_at or timing.cancelling_at:
        return SHORTEST_PAUSE
    age = now.timestamp() - timing.created_at.timestamp()
    pause = min(max(age * AGE_SHARE, SHORTEST_PAUSE), LONGEST_PAUSE)
    if timing.expires_at is not None:
        to_expiry = timing.expires_at.timestamp() - now.timestamp()
        # One second longer, since the service's times are whole seconds.
        pause = SHORTEST_PAUSE if to_expiry <= 0 else min(pause, to_expiry + 1)
    return pause


@dataclass(slots=True)
class BatchWait:
    """State of the wait for one batch. Record the outcome of each poll here, and ask for the next step. Does no I/O.

    :param deadline: None means one hour after the batch's expiry, set after the first successful poll
    :param stop_at: the moment at which the task's `execution_timeout` ends
    :param poll_interval: seconds between polls; None for the schedule of `pause_before_poll`
    :param asked_at: Unix time of the last poll, set by `schedule`
    :param due_at: Unix time of the next poll, set by `schedule`; None if there is no next poll
    """

    batch_id: str
    deadline: pendulum.DateTime | None = None
    poll_interval: float | None = None
    stop_at: pendulum.DateTime | None = None
    batch: Batch | None = None
    error: SiliconFlowError | None = None
    failing_since: pendulum.DateTime | None = None
    refused_since: pendulum.DateTime | None = None
    asked_at: float = 0.0
    due_at: float | None = None

    def record_batch(self, batch: Batch) -> None:
        """Record a successful poll."""
        self.batch, self.error, self.failing_since, self.refused_since = batch, None, None, None

    def record_error(self, error: SiliconFlowError, now: pendulum.DateTime) -> None:
        """Record a failed poll."""
        self.error = error
        self.failing_since = self.failing_since or now
        # An outage before a refusal does not count as part of its duration.
        self.refused_since = None if is_temporary(error) else self.refused_since or now

    def state(self, now: pendulum.DateTime) -> str:
        """Return `running`, `over`, `timeout`, `execution_timeout`, or `error` if polling has failed permanently.

        :param now: the current time by the service's clock, like all times of the wait
        """
        if self.batch is not None and self.batch.is_terminal:
            return "over"
        if self.deadline is None and self.batch is not None:
            self.deadline = deadline_of([self.batch], None, now)
        if self.ends_at is not None and now >= self.ends_at:
            return "timeout" if self.ends_at == self.deadline else "execution_timeout"
        if self.refused_since is not None and now - self.refused_since >= GIVE_UP_AFTER:
            return "error"
        return "running"

    @property
    def ends_at(self) -> pendulum.DateTime | None:
        """Return the latest moment at which the wait ends; None while there is no deadline."""
        return min((moment for moment in (self.deadline, self.stop_at) if moment is not None), default=None)

    def pause(self, now: pendulum.DateTime, jitter: float = 0.0) -> float:
        """Return the seconds until the next poll. It is never after the end of the wait.

        :param jitter: a number from 0 to 1 that shortens the pause by up to 10%
        """
        pause = pause_before_poll(self.batch, now, self.poll_interval)
        if self.failing_since is not None:
            failing = (now - self.failing_since).total_seconds()
            pause = max(pause, min(failing, LONGEST_PAUSE))
        pause *= 1 - JITTER * jitter
        if self.ends_at is not None:
            pause = min(pause, max(0.0, self.ends_at.timestamp() - now.timestamp()))
        return pause

    def schedule(self, now: pendulum.DateTime, since: float, jitter: float = 0.0) -> None:
        """Set the time of the next poll after a poll. There is none if the wait has ended.

        :param since: Unix time at which this poll began
        """
        self.asked_at = since
        self.due_at = since + self.pause(now, jitter) if self.state(now) == "running" else None

    def seconds_until_due(self, now: float, early: float = 0.0) -> float:
        """Return the seconds until the next poll; 0 if it is due.

        :param now: Unix time
        :param early: share of the pause that may be skipped
        """
        if self.due_at is None:
            return inf
        # A clock that was set back must not delay the next poll.
        return 0.0 if now < self.asked_at else max(0.0, self.due_at - early * (self.due_at - self.asked_at) - now)


def is_temporary(error: SiliconFlowError) -> bool:
    """Return True if an error may go away without a change. A refused key or an unknown id rarely does."""
    if isinstance(error, ServiceError):
        return isinstance(error, (ServerError, RateLimitError))
    return not isinstance(error, (InvalidRequestError, CertificateError))


def poll(waits: Sequence[BatchWait], get_batch: Callable[[str], Batch], now: Callable[[], pendulum.DateTime]) -> None:
    """Poll each batch that is not known to have ended, and record the outcome in its wait."""
    for wait in waits:
        # Polled even past the deadline: a batch that ended before the deadline has not timed out.
        if wait.batch is not None and wait.batch.is_terminal:
            continue
        try:
            wait.record_batch(get_batch(wait.batch_id))
        except SiliconFlowError as error:
            wait.record_error(error, now())


def next_pause(waits: Sequence[BatchWait], now: pendulum.DateTime) -> float:
    """Return the seconds until the next poll of any running wait."""
    return min(wait.pause(now) for wait in waits if wait.state(now) == "running")


def seconds_until_all_end(waits: Sequence[BatchWait], now: pendulum.DateTime) -> float:
    """Return the seconds until all waits have reached their ends; infinite if one has no deadline yet."""
    open_waits = [wait for wait in waits if wait.state(now) == "running"]
    if any(wait.ends_at is None for wait in open_waits):
        return inf
    return max((wait.ends_at.timestamp() - now.timestamp() for wait in open_waits if wait.ends_at), default=0.0)


@dataclass(frozen=True)
class WaitEnd:
    """The outcome of the wait for one batch.

    :param state: the state of the `BatchWait`, or `cancelled` if `cancel_on_timeout` cancelled the batch
    :param batch: the batch as last polled, without references to results, which may be signed URLs
    :param error: error of the last poll, if it failed
    :param deadline: the latest moment (UTC) at which the wait ends
    """

    batch_id: str
    state: str
    batch: Batch | None
    error: str | None
    deadline: str | None


def wait_ends(waits: Sequence[BatchWait], now: pendulum.DateTime, most_running: int = 0) -> list[WaitEnd] | None:
    """Return the outcomes of the waits that have ended, or None while too many are running.

    :param most_running: the number of waits that may still be running
    """
    ended = [wait for wait in waits if wait.state(now) != "running"]
    if len(waits) - len(ended) > most_running:
        return None
    return [
        WaitEnd(
            batch_id=wait.batch_id,
            state=wait.state(now),
            batch=wait.batch,
            error=None if wait.error is None else str(wait.error),
            deadline=None if wait.ends_at is None else wait.ends_at.to_datetime_string(),
        )
        for wait in ended
    ]


def describe_end(batch: Batch) -> str:
    """Return a sentence about a batch that has ended: status, duration and counts; and another one with its errors."""
    total = batch.timing.total
    sentence = f"batch {batch.id} {batch.final_status}" + (f" after {format_duration(total)}" if total else "")
    counts = batch.request_counts
    if counts is not None and counts.total:
        not_run = counts.total - counts.completed - counts.failed
        sentence += f": {counts.completed:,} of {counted(counts.total, 'request')} answered, {counts.failed:,} failed"
        sentence += f", {not_run:,} not run" if not_run > 0 else ""
    if batch.errors:
        sentence += f".\nErrors of the service: {'; '.join(first_errors(batch.errors))}"
    return sentence
