"""Describe the progress of batches while they are awaited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pendulum

from siliconflow_provider.api.durations import format_duration
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.waiting.batch_wait import BatchWait, describe_end
from siliconflow_provider.wording import counted

PROGRESS_LOG_INTERVAL = timedelta(hours=1)


def seconds_left(batch: Batch, now: pendulum.DateTime) -> float | None:
    """Return the estimated seconds until a batch has run all of its requests, or None if that is unknown."""
    counts, started = batch.request_counts, batch.timing.in_progress_at
    if batch.is_terminal:
        return 0.0
    if counts is None or not counts.completed or started is None or batch.timing.cancelling_at:
        return None
    remaining = max(counts.total - counts.completed - counts.failed, 0)
    return (now - started).total_seconds() * remaining / (counts.completed + counts.failed)


def describe_progress(batch: Batch, now: pendulum.DateTime) -> str:
    """Return a log line with the batch's status, counts, age and, if possible, the estimated remaining time."""
    parts = [f"batch {batch.id} is {batch.status}"]
    counts, left = batch.request_counts, seconds_left(batch, now)
    if counts is not None and counts.total:
        parts.append(f"{counts.completed + counts.failed:,} of {counted(counts.total, 'request')} done")
        if counts.failed:
            parts.append(f"{counts.failed:,} of them failed")
    if batch.timing.created_at is not None:
        parts.append(f"{format_duration(now - batch.timing.created_at)} since its creation")
    if left:
        parts.append(f"about {format_duration(left)} left")
    return ", ".join(parts)


@dataclass(frozen=True)
class Progress:
    """The progress of several batches together.

    :param statuses: the number of batches of each status
    :param done: the number of requests that are answered or failed
    :param failed: the number of failed requests
    :param total: the number of requests; of the batches whose counts are known
    :param is_total_known: True if the counts of all batches are known
    :param seconds_left: the estimated seconds until all requests have run; None if that is unknown
    """

    statuses: Counter[str]
    done: int
    failed: int
    total: int
    is_total_known: bool
    seconds_left: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the progress as a JSON object."""
        return {
            "batches": dict(self.statuses),
            "requests": self.total if self.is_total_known else None,
            "done": self.done,
            "failed": self.failed,
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left),
        }

    @property
    def quarter(self) -> int:
        """The number of quarters of the requests that are done, from 0 to 4."""
        return 4 * self.done // self.total if self.is_total_known and self.total else 0

    def __str__(self) -> str:
        text = f"{counted(self.statuses.total(), 'batch')}: "
        text += ", ".join(f"{number:,} {status}" for status, number in self.statuses.items())
        if self.total:
            text += f"; {self.done:,} of {counted(self.total, 'request')} done"
        if self.total and self.is_total_known:
            text += f" ({100 * self.done // self.total}%)"
        if self.failed:
            text += f", {self.failed:,} of them failed"
        return f"{text}, about {format_duration(self.seconds_left)} left" if self.seconds_left else text


def progress_of(awaited: Sequence[Batch | None], now: pendulum.DateTime) -> Progress:
    """Return the progress of batches.

    :param awaited: the batches as last polled; None for each that was not seen yet
    """
    batches = [batch for batch in awaited if batch is not None]
    counts = [batch.request_counts for batch in batches if batch.request_counts is not None]
    left = [seconds_left(batch, now) for batch in batches]
    known = [seconds for seconds in left if seconds is not None]
    return Progress(
        statuses=Counter(batch.status if batch else "not seen yet" for batch in awaited),
        done=sum(count.completed + count.failed for count in counts),
        failed=sum(count.failed for count in counts),
        total=sum(count.total for count in counts),
        is_total_known=len(counts) == len(awaited),
        seconds_left=max(known, default=None) if len(known) == len(awaited) else None,
    )


@dataclass
class ProgressLog:
    """Log lines about waits: what has ended, each quarter of the requests, each new status, and once an hour."""

    _seen: tuple[object, ...] = ()
    _logged_at: pendulum.DateTime | None = None
    _quarter: int = 0
    _statuses: set[str] = field(default_factory=set)
    _ended: set[str] = field(default_factory=set)

    def next_log_lines(self, waits: Sequence[BatchWait], now: pendulum.DateTime) -> list[str]:
        """Return the next log lines; none if there is nothing new."""
        errors = [wait.error for wait in waits if wait.error is not None]
        if not errors and not any(wait.batch for wait in waits):
            return []
        progress = progress_of([wait.batch for wait in waits], now)
        lines = self._lines_about_ends(waits)
        # A list that is not up to date may show less than before.
        self._quarter = max(self._quarter, progress.quarter)
        self._statuses.update(progress.statuses)
        is_over = len(self._ended) == len(waits)
        seen = (frozenset(map(type, errors)), self._quarter, frozenset(self._statuses), is_over)
        if seen != self._seen or self._logged_at is None or now - self._logged_at >= PROGRESS_LOG_INTERVAL:
            self._seen, self._logged_at = seen, now
            lines.append(_summary(waits, progress, errors, now))
        return lines

    def _lines_about_ends(self, waits: Sequence[BatchWait]) -> list[str]:
        ended = [wait.batch for wait in waits if wait.batch is not None and wait.batch.is_terminal]
        new = [batch for batch in ended if batch.id not in self._ended]
        self._ended.update(batch.id for batch in new)
        if len(waits) == 1:
            return []
        completed = [batch.id for batch in new if batch.final_status == "completed"]
        lines = [describe_end(batch) for batch in new if batch.final_status != "completed"]
        if completed:
            lines.append(f"{counted(len(completed), 'batch')} completed: {first_names(completed)}")
        return lines


def _summary(
    waits: Sequence[BatchWait], progress: Progress, errors: Sequence[Exception], now: pendulum.DateTime
) -> str:
    batch = waits[0].batch
    if len(waits) > 1:
        failing = f"; polling {len(errors):,} of them failed, will keep trying: {errors[0]}" if errors else ""
        return f"{progress}{failing}"
    if errors or batch is None:
        return f"polling batch {waits[0].batch_id} failed, will keep trying: {errors[0]}"
    return describe_progress(batch, now)
