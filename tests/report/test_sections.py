"""The parts of a report that come from the manifest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from siliconflow_provider.report.sections import (
    batch_errors,
    batches_chart,
    commonest_errors,
    figures,
    finish_reasons,
    rounds_table,
    statuses,
)
from tests.documents import Parsed

Manifest = Callable[..., dict[str, Any]]
Entry = Callable[..., dict[str, Any]]
PRICES = {"currency": "CNY", "total": 0.5, "rounds": [{"round": 1, "cost": 0.4}, {"round": 2, "cost": 0.1}]}


def short(text: str, characters: int) -> str:
    return text[:characters]


def labels(markup: object) -> dict[str, str]:
    """Return the figures by name."""
    parts = str(markup).split("<dt>")[1:]
    return {name: value.partition("</dd>")[0] for name, _, value in (part.partition("</dt><dd>") for part in parts)}


def test_figures_without_prices_have_no_cost(manifest: Manifest) -> None:
    assert labels(figures(manifest())) == {
        "requests": "4", "success rate": "75%", "prompt tokens": "1,200", "completion tokens": "34", "batches": "0",
        "rounds": "1",
    }  # fmt: skip


def test_figures_have_cost_and_estimate(manifest: Manifest) -> None:
    estimate = {
        "prompt_tokens": 1_000, "most_completion_tokens": 99, "most_cost": "0.6789", "currency": "CNY",
    }  # fmt: skip
    shown = labels(figures(manifest(cost=PRICES, estimate=estimate)))
    assert (shown["cost"], shown["estimated cost, at most"]) == ("CNY 0.50", "CNY 0.68")
    assert (shown["estimated prompt tokens"], shown["estimated completion tokens, at most"]) == ("1,000", "99")


def test_an_estimate_without_bounds_has_none(manifest: Manifest) -> None:
    estimate = {"prompt_tokens": 1_000, "most_completion_tokens": None, "most_cost": None, "currency": None}
    assert [name for name in labels(figures(manifest(estimate=estimate))) if "estimated" in name] == [
        "estimated prompt tokens"
    ]


def test_statuses_have_shares(manifest: Manifest) -> None:
    assert "succeeded375%" in Parsed(statuses(manifest())).text
    assert statuses(manifest(counts={})) is None


def test_batches_have_times_by_round(manifest: Manifest, report: Entry) -> None:
    batches = [report(2, id="b"), report(1, id="a"), {**report(2, id="c"), "cost": 0.25}]
    text = Parsed(batches_chart(manifest(batches=batches, cost=PRICES), None)).text
    assert 0 < text.index("Round 1") < text.index("Round 2")
    assert "queued 10s, running 1m 40s, finalizing 5s" in text
    assert "completed, CNY 0.25" in text


def test_a_running_batch_shows_now(manifest: Manifest, report: Entry) -> None:
    running = report()
    running["timing"] |= {"completed_at": None, "finalizing_at": None}
    now = datetime.fromisoformat(running["timing"]["created_at"]) + timedelta(minutes=2)
    assert "running 1m 50s" in Parsed(batches_chart(manifest(batches=[running]), now)).text


def test_rounds_have_costs_and_reasons(manifest: Manifest, report: Entry) -> None:
    reasons = [
        {"status": "failed", "code": "500", "message": f"reason {number}", "count": 1_000} for number in range(5)
    ]
    resent = [{"round": 2, "requests": 1_234, "reasons": reasons}]
    text = Parsed(rounds_table(manifest(batches=[report(1), report(2)], resent=resent, cost=PRICES), short)).text
    assert "21,23411m 55sCNY 0.10" in text
    assert "1,000 failed: reason 2" in text
    assert "and 2 more reasons" in text
    assert rounds_table(manifest(batches=[report(1)]), short) is None


def test_errors_are_shown_with_an_example(manifest: Manifest) -> None:
    error = {"code": None, "message": "down", "count": 1_000, "first_custom_id": "q1"}
    assert Parsed(commonest_errors(manifest(errors=[error]), short)).text.endswith("1,000downq1")
    assert commonest_errors(manifest(), short) is None


def test_failed_batches_are_limited(manifest: Manifest, report: Entry) -> None:
    batches = [{**report(), "errors": ["Line 1 is not JSON", "and 3 more"]}] * 12
    text = Parsed(batch_errors(manifest(batches=batches), short)).text
    assert text.count("Line 1 is not JSON") == 10
    assert text.endswith("and 2 more batches")
    assert batch_errors(manifest(batches=[report()]), short) is None


def test_finish_reasons_are_limited(manifest: Manifest) -> None:
    text = Parsed(finish_reasons(manifest(finish_reasons={f"reason{number}": 1 for number in range(12)}), short)).text
    assert "reason9" in text
    assert text.endswith("and 2 more reasons")
