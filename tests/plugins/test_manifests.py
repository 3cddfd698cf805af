from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.drawing.phases import BatchBar
from siliconflow_provider.plugins.manifests import batch_bars, counts_of, errors_of, round_costs
from siliconflow_provider.plugins.summaries import amount, cost_in, tokens_in
from siliconflow_provider.plugins.task_page import JobView, task_parts

ODD: list[Any] = [None, 7, -1, 1e400, "x" * 10_000, [], {}, [[]], [{}], [None], {"total": "NaN", "currency": 5}, True]


@pytest.mark.parametrize("value", ODD, ids=str)
def test_a_damaged_manifest_is_shown_all_the_same(value: Any) -> None:
    names = ("batches", "counts", "errors", "cost", "tokens", "rows", "complete")
    nested = {"batches": [dict.fromkeys(("id", "round", "status", "timing", "request_counts"), value)]}
    for manifest in (dict.fromkeys(names, value), nested, {"cost": {"rounds": [{"round": 1, "cost": value}]}}):
        view = JobView("conn", batch_bars(manifest), manifest=manifest)
        assert all(part is None or str(part) for part in task_parts(view, "/siliconflow", is_over=True))
        assert len(errors_of(manifest)) <= 10
        assert isinstance(counts_of(manifest), dict)
        assert isinstance(round_costs(manifest), dict)
        assert tokens_in(manifest) is None or tokens_in(manifest) == 0
        assert cost_in(manifest) is None


@pytest.mark.parametrize(
    ("value", "shown"), [("1.5", "CNY 1.50"), (0.25, "CNY 0.25"), ("1e999999999", None), (None, None)]
)
def test_amounts_are_formatted(value: Any, shown: str | None) -> None:
    assert amount(value, "CNY") == shown


def test_running_batches_have_an_estimate() -> None:
    from datetime import UTC, datetime

    start, now = datetime(2026, 5, 1, 10, tzinfo=UTC), datetime(2026, 5, 1, 11, tzinfo=UTC)
    quick = BatchBar("a", start, start, status="in_progress", done=90, total=100, failed=0)
    slow = BatchBar("b", start, start, status="in_progress", done=20, total=100, failed=5)
    (part,) = task_parts(JobView("conn", [(1, quick), (1, slow)], now), "/siliconflow", is_over=False)
    assert "about 3h 0m 0s at the rate so far" in str(part)
    assert "115 of 200 done (57.5%)" in str(part) or "110 of 200 done (55%), 5 failed" in str(part)
    waiting = BatchBar("c", start, status="in_queue", done=0, total=100, expires_at=now)
    (part,) = task_parts(JobView("conn", [(1, waiting)], now), "/siliconflow", is_over=False)
    assert "unknown; at the latest 2026-05-01 11:00:00 UTC" in str(part)
