from __future__ import annotations

import pendulum
import pytest

from siliconflow_provider.api.models import Batch, BatchTiming, RequestCounts
from siliconflow_provider.plugins.rows import SORTS, Query, Row


def row(name: str, status: str, hour: int | None, total: int = 10, done: int = 0, failed: int = 0) -> Row:
    created_at = None if hour is None else pendulum.datetime(2026, 5, 1, hour)
    counts = RequestCounts(total, done, failed)
    batch = Batch(name, status, request_counts=counts, timing=BatchTiming(created_at=created_at))
    return Row(batch, dag_id=f"dag-{name}")


ROWS = [
    row("a", "in_progress", 3, done=5),
    row("b", "completed", 1, total=20, done=18, failed=2),
    row("c", "failed", 4),
    row("d", "expired", 2),
    row("e", "cancelled", None),
    Row(Batch("f", "new_word")),
]


def ids(**values: str) -> str:
    return "".join(found.batch.id for found in Query.of(values).apply(ROWS))


@pytest.mark.parametrize(
    ("state", "shown"), [("", "cadbef"), ("running", "af"), ("completed", "b"), ("failed", "cd"), ("cancelled", "e")]
)
def test_states_are_filtered_newest_first(state: str, shown: str) -> None:
    assert ids(state=state) == shown


def test_hidden_errors_are_not_found() -> None:
    batch = Batch("hidden", "failed", errors=["row of customer acme"])
    assert not Query.of({"text": "acme"}).apply([Row(batch, is_hidden=True)])
    assert Query.of({"text": "acme"}).apply([Row(batch)])
    assert Query.of({"text": "hidden"}).apply([Row(batch, is_hidden=True)])


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_has_all_rows(sort: str) -> None:
    assert sorted(ids(sort=sort)) == list("abcdef")


def test_rows_are_sorted() -> None:
    assert ids(sort="failed", state="completed") == "b"
    assert ids(sort="requests").startswith("b")
    assert ids(sort="progress").endswith("ab")
    assert ids(sort="dag").endswith("f")


def test_a_page_after_the_last_is_the_last() -> None:
    assert [Query(page=9).within(rows).page for rows in (0, 50, 51)] == [1, 1, 2]


@pytest.mark.parametrize("page", ["0", "-1", "x", "", "9" * 100, "²"])
def test_invalid_values_count_as_none(page: str) -> None:
    query = Query.of({"page": page, "sort": "drop table", "state": "x", "text": "t" * 10_000})
    assert (query.page, query.sort, query.state) == (1, "newest", "")
    assert len(query.text) == 200
