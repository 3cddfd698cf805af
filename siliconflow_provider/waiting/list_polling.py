"""Decide how to poll several batches at once: by the account's list, or one by one. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from siliconflow_provider.api.models import Batch
from siliconflow_provider.waiting.batch_wait import EARLY_POLL_SHARE, BatchWait

SINGLE_REQUESTS = 2


def due_batches(waits: Iterable[BatchWait], now: float) -> list[str]:
    """Return the ids of the batches to poll now, the longest overdue first. Batches that are almost due are included.

    :param now: Unix time
    """
    due = [(wait.due_at or 0.0, wait.batch_id) for wait in waits if not wait.seconds_until_due(now, EARLY_POLL_SHARE)]
    return list(dict.fromkeys(batch_id for _, batch_id in sorted(due)))


def is_page_worthwhile(missing: int, pages: int) -> bool:
    """Return True if requesting another page of the list is better than polling the missing batches one by one.

    The next page must be able to replace more requests than all pages so far have cost, so that reading the list never
    costs much more than polling one by one.
    """
    return missing > SINGLE_REQUESTS + pages


def count_on_later_pages(missing: Mapping[str, BatchWait], page: Sequence[Batch]) -> int:
    """Return how many missing batches may be on the pages after this one, which hold older batches."""
    oldest = page[-1].timing.created_at if page else None
    moments = (wait.batch.timing.created_at if wait.batch else None for wait in missing.values())
    return sum(oldest is None or moment is None or moment <= oldest for moment in moments)


def batch_from_list_item(item: Batch, known: Batch | None) -> Batch | None:
    """Return a list item as a batch, or None if the item lacks fields that a wait needs.

    :param known: the batch as last polled
    """
    if item.is_terminal:
        # Only a single request returns the errors of a batch that did not complete.
        is_whole = item.timing.ended_at is not None and item.request_counts is not None
        return item if item.final_status == "completed" and is_whole else None
    if item.timing.created_at is not None:
        return item if item.timing.expires_at is not None or item.completion_window is not None else None
    # An item without times shows only if the status has changed.
    if known is None or known.status != item.status:
        return None
    return replace(known, request_counts=item.request_counts or known.request_counts)
