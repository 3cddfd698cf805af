"""A search finds each batch that ends once, however the list is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from siliconflow_provider.api.errors import ServerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.waiting.batch_search import LIST_DELAY, BatchSearch
from tests.listing_service import CREATED

STATUSES = ("completed", "failed", "expired", "cancelled")
DAY = 24 * 3600


@pytest.fixture
def search() -> BatchSearch:
    return BatchSearch({}, STATUSES, 60.0, started_at=CREATED)


def record_page(search: BatchSearch, page: Sequence[Batch], now: float, asked_at: float) -> bool:
    """Record a page in parts, and return whether a later one may show more."""
    for start in range(0, len(page) or 1, 2):
        search.record_items(page[start : start + 2], now, asked_at)
    return search.end_page()


def list_once(search: BatchSearch, seconds: float, *batches: Batch) -> list[str]:
    """Let the list show these batches, and return the ids of the found ones."""
    record_page(search, batches, CREATED + seconds, CREATED + seconds)
    search.finish(CREATED + seconds)
    return [batch.id for batch in search.pop_ended()]


def test_an_end_without_a_time_counts(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    assert list_once(search, 10, batch()) == []
    assert list_once(search, 20, batch("failed")) == ["batch_1"]
    assert list_once(search, 30, batch("failed")) == []


def test_an_early_end_of_a_running_batch_counts(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    """The service shows an end some days late."""
    running, ended = batch(), batch("cancelled", cancelled_at=100)
    list_once(search, 10, running)
    list_once(search, 5 * DAY, running)
    assert list_once(search, 5 * DAY + 60, ended) == ["batch_1"]


def test_found_batches_are_forgotten_after_an_hour(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    ended = batch("completed", completed_at=100)
    assert list_once(search, 110, ended) == ["batch_1"]
    assert list_once(search, 200 + LIST_DELAY, ended) == []
    assert search.state == {"since": CREATED + 200, "found": {}}


def test_the_first_to_end_comes_first(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    late, early = batch("failed", id="a", failed_at=90), batch("completed", id="b", completed_at=80)
    assert list_once(search, 100, late, early) == ["b", "a"]


@pytest.mark.parametrize(
    ("ages", "goes_on"), [((0, 1), True), ((0, 16 * DAY), False), ((16 * DAY, 0), True), ((0, None), True), ((), False)]
)
def test_pages_are_read_as_far_as_needed(
    search: BatchSearch, batch: Callable[..., Batch], ages: tuple[Any, ...], goes_on: bool
) -> None:
    def aged(age: float | None) -> Batch:
        return Batch.from_json(
            {"id": f"batch_{age}", "status": "completed", "created_at": None if age is None else CREATED - age}
        )

    assert record_page(search, [*map(aged, ages)], CREATED, CREATED) is goes_on


def test_later_lists_end_at_the_oldest_running(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    new, running = batch(id="new", created_at=DAY), batch(id="old", created_at=60)
    older = batch("completed", id="older", created_at=0, completed_at=10)
    list_once(search, DAY, new, running, older)
    assert record_page(search, [new], CREATED + DAY, CREATED + DAY)
    assert record_page(search, [running], CREATED + DAY, CREATED + DAY)
    assert not record_page(search, [older], CREATED + DAY, CREATED + DAY)


def test_a_deleted_batch_lets_lists_end_early(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    list_once(search, DAY, batch(created_at=60))
    list_once(search, DAY + 60)
    other = batch("completed", id="other", created_at=50, completed_at=55)
    assert not record_page(search, [other], CREATED + DAY, CREATED + DAY)


def test_failures_lengthen_the_pause(search: BatchSearch) -> None:
    pauses = []
    for seconds in (0, 100, 1_000):
        search.finish(CREATED + seconds, ServerError("down", status=503))
        pauses.append(search.seconds_until_due(CREATED + seconds))
    assert pauses == [60, 100, 300]
    assert search.seconds_until_due(CREATED) == 0


def test_the_state_has_only_returned_batches(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    first, second = batch("failed", id="a", failed_at=90), batch("failed", id="b", failed_at=95)
    list_once(search, 100, first)
    record_page(search, [second], CREATED + 160, CREATED + 160)
    assert search.state == {"since": CREATED, "found": {"a": CREATED + 90}}
    later = BatchSearch({}, STATUSES, 60.0, started_at=CREATED + 200)
    assert later.restore(search.state)
    assert list_once(later, 200, first, second) == ["b"]


def test_a_listing_that_fails_has_a_state(search: BatchSearch, batch: Callable[..., Batch]) -> None:
    record_page(search, [batch("failed", failed_at=90)], CREATED + 100, CREATED + 100)
    search.finish(CREATED + 100, ServerError("down", status=503))
    assert [search.state, len(search.pop_ended())] == [None, 1]
    assert search.state == {"since": CREATED, "found": {"batch_1": CREATED + 90}}


@pytest.mark.parametrize("state", [None, [], {}, {"since": "x", "found": {}}, {"since": 1, "found": ["a"]}])
def test_an_invalid_state_is_not_taken(search: BatchSearch, state: Any) -> None:
    assert not search.restore(state)
