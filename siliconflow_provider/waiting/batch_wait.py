"""When to ask again, when a wait is over, and what it ended as: functions of a batch and `now`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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

AGE_SHARE = 0.05
SHORTEST_PAUSE = 10.0
LONGEST_PAUSE = 300.0
GRACE_AFTER_EXPIRY = timedelta(hours=1)
JITTER = 0.1
EARLY_POLL_SHARE = 0.25
PROGRESS_LOG_INTERVAL = timedelta(hours=1)


def deadline_of(batches: Sequence[Batch], timeout: timedelta | None, now: pendulum.DateTime) -> pendulum.DateTime:
    """Return the moment at which waiting for batches ends.

    :param timeout: from the creation of the earliest; None stands for an hour after the last one's expiry
    """
    if timeout is not None:
        return min(each.timing.created_at or now for each in batches) + timeout
    return (
        max(each.timing.expires_at or (each.timing.created_at or now) + _window(each) for each in batches)
        + GRACE_AFTER_EXPIRY
    )


def _window(batch: Batch) -> timedelta:
    try:
        return parse_completion_window(batch.completion_window or "24h")
    except InvalidRequestError:
        return timedelta(hours=24)


def pause_before_poll(batch: Batch | None, now: pendulum.DateTime, poll_interval: float | None) -> float:
    """Return the seconds until a batch is worth another look.

    5% of its age so far, 10 s at least and 300 s at most; 10 s once it is finalizing or being cancelled, and not
    beyond its expiry.

    :param batch: as it was last seen; None when it was not seen yet
    :param poll_interval: seconds that take the place of this schedule
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
        # One second more, since the service's times are whole seconds.
        pause = SHORTEST_PAUSE if to_expiry <= 0 else min(pause, to_expiry + 1)
    return pause


def describe_progress(batch: Batch, now: pendulum.DateTime) -> str:
    """Return a line for the log: status, counts, age and, where it can be told, what is left."""
    parts = [f"batch {batch.id} is {batch.status}"]
    counts, started = batch.request_counts, batch.timing.in_progress_at
    if counts is not None and counts.total:
        parts.append(f"{counts.completed + counts.failed:,} of {counts.total:,} requests done")
        if counts.failed:
            parts.append(f"{counts.failed:,} of them failed")
    if batch.timing.created_at is not None:
        parts.append(f"{format_duration(now - batch.timing.created_at)} since its creation")
    is_running = not (batch.is_terminal or batch.timing.cancelling_at)
    if counts is not None and counts.completed and started is not None and is_running:
        left = counts.total - counts.completed - counts.failed
        if left > 0:
            estimate = (now - started).total_seconds() * left / (counts.completed + counts.failed)
            parts.append(f"about {format_duration(estimate)} left")
    return ", ".join(parts)


@dataclass(slots=True)
class BatchWait:
    """The wait for one batch: told what each poll brought, it says what to do next. Does nothing itself.

    :param deadline: None stands for the batch's expiry and an hour, once it has been seen
    :param stop_at: the moment at which the task's `execution_timeout` is over
    :param poll_interval: seconds between polls; None for the schedule of `pause_before_poll`
    :param asked_at: Unix seconds of the last poll, where one schedules them
    :param due_at: Unix seconds of the next one; None when there is none
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
    _logged: tuple[object, ...] = field(default=(), repr=False)
    _logged_at: pendulum.DateTime | None = field(default=None, repr=False)

    def record_batch(self, batch: Batch) -> None:
        """Take in an answer."""
        self.batch, self.error, self.failing_since, self.refused_since = batch, None, None, None

    def record_error(self, error: SiliconFlowError, now: pendulum.DateTime) -> None:
        """Take in a failed poll."""
        self.error = error
        self.failing_since = self.failing_since or now
        # What an outage before it took is no part of how long a refusal has lasted.
        self.refused_since = None if is_temporary(error) else self.refused_since or now

    def state(self, now: pendulum.DateTime) -> str:
        """Return `running`, `over`, `timeout`, `execution_timeout`, or `error` when asking has become pointless.

        :param now: by the clock of the service, as are the wait's own moments
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
        """The moment at which the wait ends whatever the batch does, None while nothing says when."""
        return min((each for each in (self.deadline, self.stop_at) if each is not None), default=None)

    def pause(self, now: pendulum.DateTime, jitter: float = 0.0) -> float:
        """Return the seconds until the next poll, which is never later than the end of the wait.

        :param jitter: a number from 0 to 1, which shortens the pause by up to a tenth
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
        """Set when the next poll is due, after this one; none is once the wait has ended.

        :param since: Unix seconds at which this poll began
        """
        self.asked_at = since
        self.due_at = since + self.pause(now, jitter) if self.state(now) == "running" else None

    def seconds_until_due(self, now: float, early: float = 0.0) -> float:
        """Return the seconds until the next poll, 0 when it is due.

        :param now: Unix seconds
        :param early: the share of the pause that may be left out
        """
        if self.due_at is None:
            return inf
        # A clock that went back must not hold up the next poll.
        return 0.0 if now < self.asked_at else max(0.0, self.due_at - early * (self.due_at - self.asked_at) - now)

    def next_log_line(self, now: pendulum.DateTime) -> str | None:
        """Return a line for the log when something changed or an hour has passed, else None."""
        if self.error is not None:
            seen: tuple[object, ...] = (type(self.error),)
        elif self.batch is not None:
            seen = (self.batch.status, self.batch.request_counts)
        else:
            return None
        if seen == self._logged and self._logged_at is not None and now - self._logged_at < PROGRESS_LOG_INTERVAL:
            return None
        self._logged, self._logged_at = seen, now
        if self.error is not None:
            return f"asking for batch {self.batch_id} failed, will go on asking: {self.error}"
        return None if self.batch is None else describe_progress(self.batch, now)


def is_temporary(error: SiliconFlowError) -> bool:
    """Whether an error can go away by itself; a refused key or an unknown id hardly does."""
    if isinstance(error, ServiceError):
        return isinstance(error, (ServerError, RateLimitError))
    return not isinstance(error, (InvalidRequestError, CertificateError))


def poll(waits: Sequence[BatchWait], get_batch: Callable[[str], Batch], now: Callable[[], pendulum.DateTime]) -> None:
    """Ask once for each batch that is not known to be over, and let its wait take in what comes."""
    for wait in waits:
        # Asked even past the deadline: a batch that ended while nobody looked has not timed out.
        if wait.batch is not None and wait.batch.is_terminal:
            continue
        try:
            wait.record_batch(get_batch(wait.batch_id))
        except SiliconFlowError as error:
            wait.record_error(error, now())


def next_pause(waits: Sequence[BatchWait], now: pendulum.DateTime) -> float:
    """Return the seconds until the first of the running waits is due."""
    return min(wait.pause(now) for wait in waits if wait.state(now) == "running")


def seconds_until_all_end(waits: Sequence[BatchWait], now: pendulum.DateTime) -> float:
    """Return the seconds until all waits have ended, whatever their batches do; infinite when nothing says when."""
    open_waits = [wait for wait in waits if wait.state(now) == "running"]
    if any(wait.ends_at is None for wait in open_waits):
        return inf
    return max((wait.ends_at.timestamp() - now.timestamp() for wait in open_waits if wait.ends_at), default=0.0)


@dataclass(frozen=True)
class WaitEnd:
    """How the wait for one batch ended.

    :param state: as `BatchWait.state` says, or `cancelled` by us at the deadline
    :param batch: as it was last seen, without references to results: those may be signed URLs
    :param error: of the last poll, if that failed
    :param deadline: the moment (UTC) at which the wait ends whatever the batch does
    """

    batch_id: str
    state: str
    batch: Batch | None
    error: str | None
    deadline: str | None


def wait_ends(waits: Sequence[BatchWait], now: pendulum.DateTime) -> list[WaitEnd] | None:
    """Return how the waits ended once none is running any more, else None."""
    if any(wait.state(now) == "running" for wait in waits):
        return None
    return [
        WaitEnd(
            batch_id=wait.batch_id,
            state=wait.state(now),
            batch=wait.batch,
            error=None if wait.error is None else str(wait.error),
            deadline=None if wait.ends_at is None else wait.ends_at.to_datetime_string(),
        )
        for wait in waits
    ]


def describe_end(batch: Batch) -> str:
    """Return a sentence about a batch that is over: how it ended, why, and what it delivered and costs."""
    total = batch.timing.total
    sentence = f"batch {batch.id} {batch.final_status}" + (f" after {format_duration(total)}" if total else "")
    counts = batch.request_counts
    if counts is not None and counts.total:
        open_count = counts.total - counts.completed - counts.failed
        sentence += f": {counts.completed:,} of {counts.total:,} requests answered, {counts.failed:,} failed"
        sentence += f", {open_count:,} not run" if open_count > 0 else ""
    if batch.errors:
        sentence += f"; the service says: {'; '.join(first_errors(batch.errors))}"
    return sentence
