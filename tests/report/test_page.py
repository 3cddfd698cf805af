"""The whole report: how the job ended, and a size that has a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pendulum
import pytest

from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.report.page import ReportContext, report_page
from siliconflow_provider.report.rows import ReportRows
from tests.documents import HOSTILE, Parsed

NOW = pendulum.datetime(2026, 5, 1, 12)
Manifest = Callable[..., dict[str, Any]]
Store = Callable[..., Any]
SO_FAR = "3 of 4 requests succeeded so far; the job was not over when this was written."


def row(**fields: Any) -> ResultRow:
    return ResultRow(**{"custom_id": "r", "status": "succeeded", **fields})


def outcome(manifest: dict[str, Any], store: Store, rate: float | None, *notes: str) -> str:
    """Return how the job ended: the text between the task and the figures."""
    context = ReportContext("dag/task", min_success_rate=rate, notes=notes, now=lambda: NOW)
    text = Parsed(report_page(manifest, ReportRows(store()), context)).text
    return text.rpartition("dag/task")[2].partition("requests4")[0]


@pytest.mark.parametrize(
    ("rate", "changes", "line"),
    [
        (0.75, {}, "succeeded 3 of 4 requests succeeded."),
        (0.8, {}, "failed 3 of 4 requests succeeded, and min_success_rate is 80.00%."),
        (None, {}, "downloaded 3 of 4 requests succeeded."),
        (0.0, {"counts": {"failed": 4}}, "failed 0 of 4 requests succeeded."),
        (0.5, {"complete": False}, f"unfinished {SO_FAR}"),
    ],
)  # fmt: skip
def test_the_outcome_is_that_of_the_task(manifest: Manifest, store: Store, rate: Any, changes: Any, line: str) -> None:
    assert outcome(manifest(**changes), store, rate) == line


def test_notes_say_why_a_job_stopped(manifest: Manifest, store: Store) -> None:
    line = outcome(manifest(), store, 0.0, "the job may cost more than max_cost")
    assert line == "failed 3 of 4 requests succeeded.the job may cost more than max_cost"


def test_rows_say_how_many_are_left_out(manifest: Manifest, store: Store) -> None:
    rows = ReportRows(store(*(row(content=f"answer {number}") for number in range(12))))
    text = Parsed(report_page(manifest(rows=12, counts={"succeeded": 12}), rows, ReportContext())).text
    assert "The first 10 of 12" in text
    assert "answer 9" in text
    assert "answer 10" not in text
    assert "Rows that did not succeed" not in text


def test_columns_without_values_are_left_out(manifest: Manifest, store: Store) -> None:
    page = Parsed(report_page(manifest(), ReportRows(store(row(content="4"))), ReportContext()))
    labels = [attributes.get("data-label") for tag, attributes in page.elements if tag == "td"]
    assert {"row", "answer"} <= set(labels)
    assert set(labels).isdisjoint({"input", "error", "finish_reason"})
    # Both are of the table of statuses.
    assert labels.count("status") == 2


@pytest.mark.parametrize("text", [HOSTILE * 300, "\u202e" * 3_000, "&" * 3_000, "漢字" * 1_500, "\n" * 3_000])
def test_the_largest_report_has_300_kilobytes(manifest: Manifest, store: Store, report: Any, text: str) -> None:
    reasons = [{"status": "failed", "code": text, "message": text, "count": 1}] * 10
    huge = manifest(
        batches=[{**report(), "round": 1 + n // 20, "id": text[:900], "errors": [text]} for n in range(1_000)],
        rounds=50,
        resent=[{"round": number, "requests": 10**9, "reasons": reasons} for number in range(2, 51)],
        errors=[{"code": text, "message": text, "count": 10**9, "first_custom_id": text}] * 10,
        finish_reasons={f"{number}{text[:200]}": 10**9 for number in range(254)},
        paths={"results": text},
        job_id=text,
    )  # fmt: skip
    long = {"custom_id": text, "content": text, "error": AnswerError(text[:200], text[:2_000]), "finish_reason": text}
    rows = ReportRows(store(*(row(status=status, **long) for status in ["failed", "succeeded"] for _ in range(30))))
    list(rows.note_inputs(b'{"%s":"x"}' % text[:10_000].encode() for _ in range(60)))
    page = report_page(huge, rows, ReportContext(text, notes=[text] * 9))
    assert len(page.encode()) < 300_000
    parsed = Parsed(page)
    assert "and 950 more batches" in parsed.text
    assert "and 30 more rounds" in parsed.text
    assert {tag for tag, _ in parsed.elements}.isdisjoint({"script", "img"})
