from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.models import Batch, RequestCounts
from siliconflow_provider.waiting.batch_wait import BatchWait
from siliconflow_provider.waiting.list_polling import (
    batch_from_list_item,
    count_on_later_pages,
    due_batches,
    is_page_worthwhile,
)

Make = Callable[..., Batch]
At = Callable[[float], pendulum.DateTime]
DAY = 24 * 3600
COUNTS = {"total": 9, "completed": 4, "failed": 1}


# --- due batches


def scheduled(batch_id: str, asked_at: float, due_at: float | None) -> BatchWait:
    return BatchWait(batch_id, asked_at=asked_at, due_at=due_at)


def test_due_batches_are_sorted_by_overdue_time() -> None:
    waits = [
        scheduled("due", 0, 90),
        scheduled("nearly due", 40, 110),
        scheduled("not due", 90, 110),
        scheduled("over", 0, None),
        scheduled("overdue", 0, 50),
    ]
    assert due_batches(waits, 100) == ["overdue", "due", "nearly due"]


def test_a_batch_of_two_waits_is_due_once() -> None:
    assert due_batches([scheduled("a", 0, 90), scheduled("b", 0, 80), scheduled("a", 0, 70)], 100) == ["a", "b"]


@pytest.mark.parametrize(
    ("missing", "pages", "worth"),
    [(0, 0, False), (1, 0, False), (2, 0, False), (3, 0, True), (3, 1, False), (900, 1, True), (100, 98, False)],
)
def test_a_page_must_save_requests(missing: int, pages: int, worth: bool) -> None:
    assert is_page_worthwhile(missing, pages) is worth


def test_later_pages_hold_only_older_batches(batch: Make) -> None:
    missing = {
        "younger": BatchWait("younger", batch=batch(created_at=200)),
        "as old": BatchWait("as old", batch=batch(created_at=100)),
        "older": BatchWait("older", batch=batch(created_at=0)),
        "unseen": BatchWait("unseen"),
    }
    assert count_on_later_pages(missing, [batch(created_at=300), batch(created_at=100)]) == 3
    assert count_on_later_pages(missing, [Batch("b", "in_progress")]) == 4
    assert count_on_later_pages(missing, []) == 4


# --- list items


def test_an_item_with_times_is_used_unchanged(batch: Make) -> None:
    item = batch("in_progress")
    assert batch_from_list_item(item, None) is item
    done = batch("completed", completed_at=50, request_counts=COUNTS)
    assert batch_from_list_item(done, item) is done


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("completed", {"request_counts": COUNTS}),
        ("completed", {"completed_at": 50}),
        ("failed", {"failed_at": 50, "request_counts": COUNTS}),
        ("expired", {"expired_at": 50, "request_counts": COUNTS}),
        ("cancelled", {"cancelled_at": 50, "request_counts": COUNTS}),
    ],
)
def test_an_incomplete_ended_item_is_not_used(batch: Make, status: str, fields: Any) -> None:
    assert batch_from_list_item(batch(status, **fields), batch()) is None


def test_an_item_without_an_expiry_needs_a_window() -> None:
    created = {"id": "b", "status": "in_progress", "created_at": 1_800_000_000}
    assert batch_from_list_item(Batch.from_json(created), None) is None
    assert batch_from_list_item(Batch.from_json({**created, "completion_window": "48h"}), None) is not None


def test_an_item_without_times_keeps_known_times(batch: Make) -> None:
    known, counts = batch("in_progress", request_counts={}), RequestCounts(9, 4, 1)
    found = batch_from_list_item(Batch("batch_1", "in_progress", request_counts=counts), known)
    assert found is not None
    assert (found.timing, found.request_counts) == (known.timing, counts)
    assert batch_from_list_item(Batch("batch_1", "finalizing"), known) is None
    assert batch_from_list_item(Batch("batch_1", "in_progress"), None) is None
