"""Bars of progress and time, as inline SVG."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from siliconflow_provider.drawing.bars import describe_progress, progress_bar, timing_bar, timing_chart
from siliconflow_provider.drawing.phases import BatchBar, TimeAxis
from tests.documents import HOSTILE, Parsed

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
BAR = BatchBar(
    "batch_a", START, START + timedelta(minutes=1), START + timedelta(minutes=9), START + timedelta(minutes=10),
    START + timedelta(hours=24), "completed", 98, 100, 2, group="Round 1",
)  # fmt: skip
OPEN = BatchBar(
    "batch_b", START, START + timedelta(minutes=5), expires_at=START + timedelta(minutes=40), status="in_progress"
)
NOW = START + timedelta(minutes=20)


def boxes(markup: object) -> dict[str, tuple[str | None, str | None]]:
    """Return position and width of each box, and the position of each line, by class."""
    return {
        attributes["class"] or "": (attributes.get("x", attributes.get("x1")), attributes.get("width"))
        for tag, attributes in Parsed(markup).elements
        if tag in ("rect", "line")
    }


def test_the_phases_follow_each_other() -> None:
    found = boxes(timing_bar(BAR, TimeAxis.of([BAR])))
    assert found["sf-queued"] == ("0.00%", "10.00%")
    assert found["sf-running"] == ("10.00%", "80.00%")
    assert found["sf-finalizing"] == ("90.00%", "10.00%")
    assert found["sf-ended sf-is-completed"] == ("100.00%", None)


def test_a_running_batch_shows_now_and_its_window() -> None:
    found = boxes(timing_bar(OPEN, TimeAxis.of([OPEN], NOW), NOW))
    assert found["sf-running"] == ("12.50%", "37.50%")
    assert (found["sf-now"][0], found["sf-window"][0]) == ("50.00%", "100.00%")


def test_a_bar_says_as_text_what_it_shows() -> None:
    parsed = Parsed(timing_bar(BAR, TimeAxis.of([BAR])))
    assert parsed.elements[0][1]["role"] == "img"
    text = "batch_a: completed, queued 1m 0s, running 8m 0s, finalizing 1m 0s; 98 of 100 done (98%), 2 failed"
    assert parsed.text == text
    assert "window until 2026-05-01 12:40:00 UTC" in str(timing_bar(OPEN, TimeAxis(), NOW))


def test_hostile_labels_stay_texts() -> None:
    bar = BatchBar(HOSTILE, START, status=HOSTILE, group=HOSTILE, note=HOSTILE)
    tags = {tag for tag, _ in Parsed(timing_chart([bar], title=HOSTILE)).elements}
    assert tags.isdisjoint({"script", "img"})


def test_batches_that_do_not_fit_are_counted() -> None:
    chart = Parsed(timing_chart([BAR] * 1_000, shown=3))
    assert sum(tag == "svg" and attributes.get("role") == "img" for tag, attributes in chart.elements) == 3
    assert "and 997 more batches" in chart.text


def test_each_group_has_one_heading() -> None:
    bars = [BatchBar("a", group="Round 1"), BatchBar("b", group="Round 1"), BatchBar("c", group="Round 2")]
    text = Parsed(timing_chart(bars)).text
    assert (text.count("Round 1"), text.count("Round 2")) == (1, 1)


def test_the_legend_has_only_marks_that_are_drawn() -> None:
    assert "end of the window" not in Parsed(timing_chart([BAR], NOW)).text
    assert "end of the window" in Parsed(timing_chart([OPEN], NOW)).text


def test_progress_has_answered_and_refused_requests() -> None:
    found = boxes(progress_bar(98, 200, 2))
    assert (found["sf-done"], found["sf-failed"]) == (("0.00%", "49.00%"), ("49.00%", "1.00%"))


@pytest.mark.parametrize(("done", "total", "failed"), [(9, 3, 9), (-1, 3, -1), (0, 3, 10**30), (None, 3, None)])
def test_senseless_counts_stay_in_the_bar(done: int | None, total: int, failed: int | None) -> None:
    widths = [float((width or "").rstrip("%")) for _, width in boxes(progress_bar(done, total, failed)).values()]
    assert all(0 <= width <= 100 for width in widths)


def test_unknown_progress_is_a_dash() -> None:
    assert describe_progress(None, 5) == describe_progress(1, None) == "–"
    assert str(progress_bar(None, None)) == '<span class="sf-muted">–</span>'
    assert describe_progress(0, 0) == "0 of 0 done"
