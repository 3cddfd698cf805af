"""Draw the tab of a task instance with its own batches, their progress and what has become of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from siliconflow_provider.api.durations import format_duration
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.api.service_texts import cut
from siliconflow_provider.drawing.bars import describe_progress, progress_bar, timing_chart
from siliconflow_provider.drawing.markup import Markup, element, group
from siliconflow_provider.drawing.numbers import UNKNOWN, number, seconds_of, share, utc
from siliconflow_provider.drawing.phases import BatchBar
from siliconflow_provider.drawing.tables import facts, table
from siliconflow_provider.plugins.manifests import counts_of, errors_of, round_costs
from siliconflow_provider.plugins.pages import problem
from siliconflow_provider.plugins.summaries import Summary, cost_in, integer, tokens_in
from siliconflow_provider.wording import counted

_LONGEST_PATH = 1_000


@dataclass(frozen=True)
class JobView:
    """The batches of a task instance as a user may see them.

    :param bars: each batch with its round
    :param moment: the service's time, if batches may be running
    :param cancellable: ids of the batches that the user may cancel
    :param summary: of the task, once it has returned one
    :param manifest: of the job, if it could be read
    :param problems: sentences about what could not be read
    :param files: names of the job's files, each with its address on these pages
    """

    conn_id: str
    bars: Sequence[tuple[int, BatchBar]] = ()
    moment: datetime | None = None
    cancellable: Sequence[str] = ()
    summary: Summary = field(default_factory=Summary)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)


def task_parts(view: JobView, root: str, *, is_over: bool) -> list[Markup | None]:
    """Return the parts of the tab.

    :param root: the address of these pages
    :param is_over: True if the task instance has ended
    """
    return [
        element(
            "div",
            element("h1", "Batches"),
            *map(problem, view.problems),
            _facts(view) if view.bars or view.summary.value else _nothing(view),
            _progress(view),
            *_results(view),
            *_batches(view, root),
            *_errors(view),
            id="live",
            data_refresh=None if is_over else "1",
        )
    ]


def _nothing(view: JobView) -> Markup:
    text = f"No batch of this task instance is in the newest ones of connection {view.conn_id}."
    return element("p", text, class_="sf-muted")


def _facts(view: JobView) -> Markup:
    report = view.manifest or view.summary.value
    tokens = tokens_in(report)
    rounds = max((number for number, _ in view.bars), default=None)
    rows = integer(report.get("rows"))
    counts = counts_of(report)
    good = counts.get("succeeded", 0) if counts else None
    return facts(
        {
            "Rows": number(rows) if rows is not None else None,
            "Success rate": share(good, rows) if rows is not None and good is not None else None,
            "Batches": number(len(view.bars)) if view.bars else None,
            "Rounds": number(rounds) if rounds else None,
            "Tokens": number(tokens) if tokens is not None else None,
            "Cost": cost_in(report),
            "Time left": _time_left(view),
            "Connection": view.conn_id,
        }
    )


def _progress(view: JobView) -> Markup | None:
    if not view.bars:
        return None
    newest = max(number for number, _ in view.bars)
    bars = [bar for number, bar in view.bars if number == newest]
    done, total, failed = (sum(getattr(bar, name) or 0 for bar in bars) for name in ("done", "total", "failed"))
    text = describe_progress(done, total, failed)
    heading = f"Progress of round {newest}" if newest > 1 else "Progress"
    return group(element("h2", heading), progress_bar(done, total, failed), element("p", text))


def _time_left(view: JobView) -> str | None:
    """Return an estimate from the rate so far of the batch that needs longest, or None if no batch is running."""
    running = [bar for _, bar in view.bars if bar.ended_at is None]
    if not running or view.moment is None:
        return None
    now = seconds_of(view.moment)
    lengths = []
    for bar in running:
        done = (bar.done or 0) + (bar.failed or 0)
        if not bar.in_progress_at or not bar.total or not done:
            return f"unknown; at the latest {utc(bar.expires_at)}" if bar.expires_at else "unknown"
        elapsed = max(0.0, now - seconds_of(bar.in_progress_at))
        lengths.append(elapsed / done * max(0, bar.total - done))
    return f"about {format_duration(max(lengths))} at the rate so far"


def _results(view: JobView) -> list[Markup | None]:
    counts = counts_of(view.manifest or view.summary.value)
    rows = sum(counts.values())
    by_status = [(name, number(count), share(count, rows)) for name, count in counts.items()]
    links = [element("a", name, href=address) for name, address in view.files.items()]
    path = _shown_path(view.summary.results_path or "")
    if not counts and not path:
        return []
    return [
        element("h2", "Results"),
        table(("Status", "Rows", "Share"), by_status) if by_status else None,
        element("p", *[part for link in links for part in (link, " ")]) if links else None,
        element("p", "Results: ", element("code", path)) if path else None,
    ]


def _shown_path(path: str) -> str:
    """Return a path without query and password. The id of an Airflow connection stays."""
    scheme, sign, rest = without_queries(cut(path, _LONGEST_PATH)).partition("://")
    user, _, place = rest.rpartition("@")
    return f"{scheme}://***@{place}" if ":" in user else f"{scheme}{sign}{rest}"


def _batches(view: JobView, root: str) -> list[Markup]:
    if not view.bars:
        return []
    costs = round_costs(view.manifest)
    several = len({number for number, _ in view.bars}) > 1
    bars = []
    for round_number, bar in view.bars:
        cost = costs.get(round_number)
        heading = f"Round {round_number}" + (f", {cost}" if cost else "")
        note = f"{bar.status}, {describe_progress(bar.done, bar.total, bar.failed)}"
        bars.append(BatchBar(**{**vars(bar), "group": heading if several else "", "note": note}))
    cancel = [
        element(
            "a",
            f"Cancel {batch_id}…",
            href=f"{root}/cancel?{urlencode({'conn_id': view.conn_id, 'batch_id': batch_id, 'from_task': '1'})}",
            class_="sf-button",
        )
        for batch_id in view.cancellable
    ]
    parts = [element("h2", counted(len(bars), "batch").capitalize()), timing_chart(bars, view.moment)]
    return [*parts, element("div", *cancel, class_="sf-filters")] if cancel else parts


def _errors(view: JobView) -> list[Markup]:
    errors = errors_of(view.manifest)
    if not errors:
        return []
    rows = [
        (count, element("code", code) if code else UNKNOWN, element("bdi", text), first)
        for count, code, text, first in errors
    ]
    return [element("h2", "Commonest errors"), table(("Requests", "Code", "Message", "First request"), rows)]
