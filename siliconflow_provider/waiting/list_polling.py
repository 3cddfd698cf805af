"""What to ask when several batches are awaited at once: pure functions of the waits and of what the list shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pendulum

from siliconflow_provider.api.models import Batch
from siliconflow_provider.waiting.batch_wait import EARLY_POLL_SHARE, PROGRESS_LOG_INTERVAL, BatchWait

SINGLE_REQUESTS = 2


def due_batches(waits: Iterable[BatchWait], now: float) -> list[str]:
    """Return the ids to ask for now, the longest overdue first; what is nearly due comes along.

    :param now: Unix seconds
    """
    due = [(wait.due_at or 0.0, wait.batch_id) for wait in waits if not wait.seconds_until_due(now, EARLY_POLL_SHARE)]
    return list(dict.fromkeys(batch_id for _, batch_id in sorted(due)))


def is_page_worthwhile(missing: int, pages: int) -> bool:
    """Whether to ask for another page of the list, or for each missing batch by itself.

    A page must be able to answer for more than has been spent on pages so far, so that looking through the list never
    costs much more than asking singly.
    """
    return missing > SINGLE_REQUESTS + pages


def count_on_later_pages(missing: Mapping[str, BatchWait], page: Sequence[Batch]) -> int:
    """Return how many of the missing batches the pages after this one, which are older, may show."""
    oldest = page[-1].timing.created_at if page else None
    moments = (wait.batch.timing.created_at if wait.batch else None for wait in missing.values())
    return sum(oldest is None or each is None or each <= oldest for each in moments)


def batch_from_list_item(item: Batch, known: Batch | None) -> Batch | None:
    """Return the batch as a list item shows it, or None where it lacks what a wait needs.

    :param known: the batch as it was last seen
    """
    if item.is_terminal:
        # Why a batch ended otherwise than completed is told by the batch itself.
        is_whole = item.timing.ended_at is not None and item.request_counts is not None
        return item if item.final_status == "completed" and is_whole else None
    if item.timing.created_at is not None:
        return item if item.timing.expires_at is not None or item.completion_window is not None else None
    # Without times an item says only whether something has changed.
    if known is None or known.status != item.status:
        return None
    return replace(known, request_counts=item.request_counts or known.request_counts)


@dataclass
class ProgressLog:
    """What the log is told of several waits: one line for all of them when something changed, and once an hour."""

    _logged: tuple[object, ...] = ()
    _logged_at: pendulum.DateTime | None = None

    def next_log_line(self, waits: Sequence[BatchWait], now: pendulum.DateTime) -> str | None:
        """Return a line for the log, else None."""
        if len(waits) == 1:
            return waits[0].next_log_line(now)
        statuses = Counter(wait.batch.status if wait.batch else "not seen yet" for wait in waits)
        counts = [wait.batch.request_counts for wait in waits if wait.batch and wait.batch.request_counts]
        done, total = sum(each.completed + each.failed for each in counts), sum(each.total for each in counts)
        errors = [wait.error for wait in waits if wait.error is not None]
        seen = (tuple(statuses.items()), done, {type(each) for each in errors})
        if seen == self._logged and self._logged_at is not None and now - self._logged_at < PROGRESS_LOG_INTERVAL:
            return None
        self._logged, self._logged_at = seen, now
        line = f"{len(waits)} batches: " + ", ".join(f"{number} {status}" for status, number in statuses.items())
        if total:
            line += f"; {done:,} of {total:,} requests done"
        return f"{line}; asking for {len(errors)} of them failed, will go on: {errors[0]}" if errors else line
