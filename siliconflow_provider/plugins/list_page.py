"""Draw the page with all batches of a connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from siliconflow_provider.api.durations import format_duration
from siliconflow_provider.api.service_texts import cut
from siliconflow_provider.drawing.bars import describe_progress, legend, progress_bar, timing_bar
from siliconflow_provider.drawing.markup import Markup, element, group
from siliconflow_provider.drawing.numbers import UNKNOWN, number, utc
from siliconflow_provider.drawing.phases import BatchBar, TimeAxis
from siliconflow_provider.drawing.tables import badge, table
from siliconflow_provider.plugins.access import DagAccess
from siliconflow_provider.plugins.batch_lists import BatchList
from siliconflow_provider.plugins.pages import outer_link, problem
from siliconflow_provider.plugins.rows import PAGE_SIZE, SORTS, STATES, Query, Row, age, may_cancel
from siliconflow_provider.plugins.summaries import Summary
from siliconflow_provider.plugins.tasks import TaskInstance, task_path_in_label
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)

_LONGEST_TEXT = 120
_KINDS = {"completed": "good", "failed": "bad", "expired": "warning", "cancelled": "warning"}


@dataclass(frozen=True)
class ListView:
    """A user's view of one connection.

    :param root: the address of these pages
    :param airflow: the address of Airflow, without a final slash
    :param conn_ids: those that the user may choose
    :param summaries: of the jobs whose batches are shown
    """

    root: str
    airflow: str
    conn_ids: Sequence[str]
    conn_id: str
    found: BatchList
    dags: DagAccess
    may_edit_connection: bool
    query: Query
    message: str = ""

    def address(self, **changes: Any) -> str:
        """Return the address of this view with some changes."""
        query = {"conn_id": self.conn_id, **vars(self.query), **changes}
        return f"{self.root}/batches?{urlencode({name: value for name, value in query.items() if value})}"


def list_parts(
    view: ListView, rows: Sequence[Row], shown: Sequence[Row], total: int, summaries: Mapping[TaskInstance, Summary]
) -> list[Markup | None]:
    """Return the parts of the page.

    :param rows: all rows of the connection
    :param shown: those of this page
    :param total: the number of rows that match the query
    """
    found = view.found
    note = f"{number(total)} of {counted(len(rows), 'batch')}"
    note += f", as of {utc(found.moment)}" if found.moment else ""
    note += "; the service lists more, and these are the first of them" if found.is_cut else ""
    live = element(
        "div",
        problem(found.problem),
        element("p", note, class_="sf-muted"),
        _batches(view, shown, summaries) if shown else element("p", "No batch matches."),
        _pages(view, total),
        id="live",
        data_refresh="1",
    )
    return [element("h1", "SiliconFlow batches"), problem(view.message), _filters(view, rows), live]


def _filters(view: ListView, rows: Sequence[Row]) -> Markup:
    found = sorted({view.query.dag_id, *(row.dag_id for row in rows)} - {""})
    dag_ids = {name: cut(name, _LONGEST_TEXT) for name in found}
    conn_ids = {conn_id: conn_id for conn_id in view.conn_ids}
    return element(
        "form",
        _select("Connection", "conn_id", conn_ids, view.conn_id),
        _select("Status", "state", STATES, view.query.state),
        _select(
            "DAG",
            "dag_id",
            {"": "all", **dag_ids},
            view.query.dag_id,
        ),
        element("label", "Text", element("input", type="search", name="text", value=view.query.text, size=18)),
        _select("Order", "sort", {name: sort[0] for name, sort in SORTS.items()}, view.query.sort),
        element("button", "Apply"),
        element("a", "Reset", href=f"{view.root}/batches?{urlencode({'conn_id': view.conn_id})}"),
        method="get",
        action=f"{view.root}/batches",
        class_="sf-filters",
        role="search",
    )


def _select(label: str, name: str, options: Mapping[str, str], chosen: str) -> Markup:
    found = [element("option", text, value=value, selected=value == chosen) for value, text in options.items()]
    return element("label", label, element("select", *found, name=name))


def _pages(view: ListView, total: int) -> Markup | None:
    page, last = view.query.page, max(1, -(-total // PAGE_SIZE))
    if last == 1 and page == 1:
        return None
    links = [
        element("a", text, href=view.address(page=target), rel=rel) if 1 <= target <= last else None
        for text, target, rel in (("Previous", page - 1, "prev"), ("Next", page + 1, "next"))
    ]
    return element("nav", *links, element("span", f"page {page:,} of {last:,}"), class_="sf-pages", aria_label="Pages")


def _batches(view: ListView, shown: Sequence[Row], summaries: Mapping[TaskInstance, Summary]) -> Markup:
    bars = [bar_of(row.batch.id, row) for row in shown]
    moment = view.found.moment
    axis = TimeAxis.of(bars, moment)
    cells = [
        (
            _cell(_identity, row),
            _cell(_task, view, row),
            _cell(_progress, bar),
            _cell(timing_bar, bar, axis, moment),
            _cell(_age, row, view.found),
            _cell(_costs, summaries.get(row.task) if row.task else None),
            _cell(_metadata, row),
            _cell(_cancel_link, view, row),
        )
        for row, bar in zip(shown, bars, strict=True)
    ]
    names = ("Batch", "Task", "Progress", "Timeline", "Age", "Job", "Metadata", "")
    start, end = (utc(datetime.fromtimestamp(moment, UTC)) for moment in (axis.start, axis.end))
    scale = element("p", f"Timelines from {start} to {end}", class_="sf-muted sf-small") if axis.end else None
    return element("figure", table(names, cells), scale, legend(axis, bars), class_="sf-chart sf-batches")


def _cell(draw: Callable[..., Markup | str | None], *data: Any) -> Markup | str | None:
    """Return a cell; a dash if its data cannot be drawn. One odd row must not break the page for everybody."""
    try:
        return draw(*data)
    except Exception:
        log.exception("a cell of the list of batches could not be drawn")
        return UNKNOWN


def bar_of(label: str, row: Row) -> BatchBar:
    """Return the bar of a batch."""
    batch, timing, counts = row.batch, row.batch.timing, row.batch.request_counts
    return BatchBar(
        label,
        timing.created_at,
        timing.in_progress_at,
        timing.finalizing_at,
        # The service may estimate an end while the batch runs.
        timing.ended_at if batch.is_terminal else None,
        timing.expires_at,
        batch.final_status or batch.status,
        row.done,
        None if counts is None else counts.total,
        None if counts is None else counts.failed,
    )


def _identity(row: Row) -> Markup:
    batch = row.batch
    status = badge(batch.final_status or batch.status, _KINDS.get(batch.final_status or "", ""))
    errors = cut(batch.errors[0], _LONGEST_TEXT) if batch.errors and not row.is_hidden else None
    error = element("div", errors, class_="sf-bad sf-small") if errors else None
    return group(element("code", batch.id), element("div", status), error)


def _task(view: ListView, row: Row) -> Markup | str:
    if row.is_hidden:
        return element("span", "of a DAG that you may not read", class_="sf-muted")
    task = row.task
    if task is not None:
        index = "" if task.map_index < 0 else f" [{task.map_index}]"
        link = outer_link(f"{task.dag_id} / {task.task_id}{index}", f"{view.airflow}{task.path}")
        return group(link, element("div", task.run_id, class_="sf-muted sf-small"))
    if not row.dag_id:
        return element("span", "not from this provider", class_="sf-muted")
    path = task_path_in_label(row.batch) if row.dag_id in view.dags.readable else None
    name = cut(row.dag_id, _LONGEST_TEXT)
    note = element("div", "the run is not known here", class_="sf-muted sf-small")
    return group(outer_link(name, f"{view.airflow}{path}") if path else name, note)


def _progress(bar: BatchBar) -> Markup:
    text = element("div", describe_progress(bar.done, bar.total, bar.failed), class_="sf-small")
    return group(progress_bar(bar.done, bar.total, bar.failed), text) if bar.total else text


def _age(row: Row, found: BatchList) -> Markup:
    seconds, end, now = age(row.batch, found.moment), row.batch.timing.expires_at, found.moment
    left = None if row.batch.is_terminal or end is None or now is None else (end - now).total_seconds()
    window = f"{format_duration(left)} of its window left" if left is not None and left > 0 else None
    shown = UNKNOWN if seconds is None else format_duration(seconds)
    return group(shown, element("div", window, class_="sf-muted sf-small") if window else None)


def _costs(summary: Summary | None) -> Markup | str:
    if summary is None or (summary.tokens is None and summary.cost is None):
        return UNKNOWN
    tokens = None if summary.tokens is None else f"{number(summary.tokens)} tokens"
    return group(*(element("div", text) for text in (tokens, summary.cost) if text))


def _metadata(row: Row) -> Markup | str:
    if not row.metadata:
        return UNKNOWN
    pairs = [
        group(element("dt", cut(name, _LONGEST_TEXT)), element("dd", element("bdi", value)))
        for name, value in row.metadata.items()
    ]
    return element(
        "details",
        element("summary", counted(len(row.metadata), "pair")),
        element("dl", *pairs),
        id=f"metadata-{row.batch.id}",
    )


def _cancel_link(view: ListView, row: Row) -> Markup | str:
    if not may_cancel(row, view.dags, view.may_edit_connection):
        return ""
    query = urlencode({"conn_id": view.conn_id, "batch_id": row.batch.id})
    label = f"Cancel batch {row.batch.id}"
    return element("a", "Cancel…", href=f"{view.root}/cancel?{query}", class_="sf-button", aria_label=label)


def tasks_of(rows: Collection[Row]) -> set[TaskInstance]:
    """Return the task instances of rows."""
    return {row.task for row in rows if row.task is not None}
