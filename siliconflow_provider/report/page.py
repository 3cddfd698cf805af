"""Draw the report of a job from its manifest and its first rows. Its size has a limit, whatever the job's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from siliconflow_provider.api import clock
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.drawing.document import document
from siliconflow_provider.drawing.markup import Child, Markup, element, group, lines
from siliconflow_provider.drawing.numbers import number, utc
from siliconflow_provider.drawing.tables import badge, table
from siliconflow_provider.report.rows import LONGEST_ID, ReportRows, ShownRow, clean
from siliconflow_provider.report.sections import (
    Short,
    batch_errors,
    batches_chart,
    commonest_errors,
    figures,
    finish_reasons,
    rounds_table,
    statuses,
)

LONGEST_NOTE, SHOWN_NOTES = 1_000, 5


@dataclass(frozen=True)
class ReportContext:
    """The facts in a report that the manifest does not have.

    :param task: the task instance, as people read it
    :param without_secrets: removes the key and the queries of URLs from a text
    :param min_success_rate: below it, or without one good answer, the task fails; None if it does not judge
    :param notes: sentences on why the job stopped, and failed
    :param now: returns the current time
    """

    task: str = ""
    without_secrets: Callable[[str], str] = without_queries
    min_success_rate: float | None = None
    notes: Sequence[str] = ()
    now: Callable[[], datetime] = field(default=clock.now)


def report_page(manifest: Mapping[str, Any], rows: ReportRows, context: ReportContext) -> str:
    """Return the report as HTML."""
    now = context.now()

    def short(text: str, characters: int) -> str:
        return clean(text, characters, context.without_secrets)

    succeeded = manifest["counts"].get("succeeded", 0)
    return document(
        f"Report of {short(context.task, LONGEST_ID)}",
        element("h1", "Batch inference report"),
        element("p", element("bdi", short(context.task, LONGEST_NOTE)), class_="sf-muted"),
        _outcome(manifest, context, short),
        figures(manifest),
        _section("Results", statuses(manifest)),
        _section("Batches", batches_chart(manifest, None if manifest["complete"] else now)),
        _section("Rounds", rounds_table(manifest, short)),
        _section("Most frequent errors", commonest_errors(manifest, short)),
        _section("Errors of batches", batch_errors(manifest, short)),
        _section("Finish reasons", finish_reasons(manifest, short)),
        _rows("Rows that did not succeed", rows.others(), manifest["rows"] - succeeded),
        _rows("Rows that succeeded", rows.succeeded(), succeeded),
        _section(
            "Files", table(["file", "path"], [[name, short(path, 500)] for name, path in manifest["paths"].items()])
        ),
        element("p", f"Written at {utc(now)}. Job {short(manifest['job_id'], LONGEST_ID)}.", class_="sf-muted"),
    )


def _outcome(manifest: Mapping[str, Any], context: ReportContext, short: Short) -> Markup:
    """Return how the job ended, and why."""
    label, kind, reason = _verdict(manifest, context)
    notes = (element("p", lines(short(note, LONGEST_NOTE))) for note in context.notes[:SHOWN_NOTES])
    return group(element("p", badge(label, kind), " ", reason), *notes)


def _verdict(manifest: Mapping[str, Any], context: ReportContext) -> tuple[str, str, str]:
    """Return the outcome in one word, its kind, and a sentence."""
    rows, succeeded = manifest["rows"], manifest["counts"].get("succeeded", 0)
    shown = f"{number(succeeded)} of {number(rows)} requests succeeded"
    if not manifest["complete"]:
        return "unfinished", "warning", f"{shown} so far; the job was not over when this was written."
    least = context.min_success_rate
    if least is None:
        return "downloaded", "good" if succeeded == rows else "warning", f"{shown}."
    rate = succeeded / rows if rows else 1.0
    if rate > 0 and rate >= least and not context.notes:
        return "succeeded", "good", f"{shown}."
    below = f", and min_success_rate is {least:.2%}" if rate < least else ""
    return "failed", "bad", f"{shown}{below}."


def _section(title: str, content: Markup | None) -> Markup:
    """Return a section with its heading; nothing if it has no content."""
    return group() if content is None else element("section", element("h2", title), content)


def _rows(title: str, rows: Sequence[ShownRow], total: int) -> Markup:
    if not rows:
        return group()
    columns: dict[str, Callable[[ShownRow], Child]] = {
        "row": lambda row: number(row.index),
        "custom_id": lambda row: _text(row.custom_id),
        "status": lambda row: None if row.status == "succeeded" else element("span", row.status, class_="sf-word"),
        "input": lambda row: _text(row.input),
        "answer": lambda row: _text(row.answer),
        "error": lambda row: _text(row.error),
        "finish_reason": lambda row: row.finish_reason,
    }
    # A column that no row has a value for, such as the error of rows that succeeded, is left out.
    cells: dict[str, list[Child]] = {name: [value(row) for row in rows] for name, value in columns.items()}
    used = {name: values for name, values in cells.items() if any(values)}
    left = f"The first {number(len(rows))} of {number(total)}" if total > len(rows) else None
    return _section(title, table(list(used), zip(*used.values(), strict=True), left))


def _text(text: str) -> Child:
    return element("div", lines(text), class_="sf-text") if text else None
