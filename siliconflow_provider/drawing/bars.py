"""Draw progress and the phases of batches as inline SVG. Positions are percents: a bar is as wide as its place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

from siliconflow_provider.api.durations import format_duration
from siliconflow_provider.drawing.markup import Markup, element, group
from siliconflow_provider.drawing.numbers import UNKNOWN, number, seconds_of, share, utc
from siliconflow_provider.drawing.phases import BatchBar, TimeAxis, phases_of
from siliconflow_provider.wording import counted

SHOWN_BARS = 50
_HEIGHT = 16
# Queued time is a thin line, so that colors alone tell nothing.
_HEIGHTS = {"queued": 4, "running": 16, "finalizing": 10}


def progress_bar(done: int | None, total: int | None, failed: int | None = None) -> Markup:
    """Return a bar of the requests that are answered and refused, without a text beside it."""
    text = describe_progress(done, total, failed)
    if not total or total < 0:
        return element("span", text, class_="sf-muted")
    good = min(max(done or 0, 0), total)
    bad = min(max(failed or 0, 0), total - good)
    return _svg(
        text,
        _box("track", 0, 100, _HEIGHT),
        _box("done", 0, good / total * 100, _HEIGHT),
        _box("failed", good / total * 100, bad / total * 100, _HEIGHT),
    )


def describe_progress(done: int | None, total: int | None, failed: int | None = None) -> str:
    """Return a progress as text, such as `4,500 of 5,000 done (90%), 3 failed`; a dash if it is unknown."""
    if done is None or total is None:
        return UNKNOWN
    text = f"{number(done)} of {number(total)} done"
    text += f" ({share(done, total)})" if total > 0 else ""
    return f"{text}, {number(failed)} failed" if failed else text


def describe_times(bar: BatchBar, now: datetime | None = None) -> str:
    """Return the status of a batch and the lengths of its phases as text."""
    phases = [f"{phase.name} {format_duration(phase.end - phase.start)}" for phase in phases_of(bar, now)]
    window = [f"window until {utc(bar.expires_at)}"] if _has_open_window(bar) else []
    return ", ".join([bar.status or "unknown status", *(phases or ["times unknown"]), *window])


def timing_bar(bar: BatchBar, axis: TimeAxis, now: datetime | None = None) -> Markup:
    """Return the phases of a batch on a time axis, with the current time and the end of its window.

    :param now: the current time; None if the batch's own times are all that is known
    """
    marks = []
    phases = phases_of(bar, now)
    for phase in phases:
        start = axis.percent(phase.start)
        marks.append(_box(phase.name, start, axis.percent(phase.end) - start, _HEIGHTS[phase.name]))
    if phases:
        # Also a batch of a second stays visible on an axis of days.
        end = "ended" if bar.ended_at else "open"
        marks.append(_line(f"{end} sf-is-{_status_class(bar.status)}", axis.percent(phases[-1].end)))
    if axis.now is not None:
        marks.append(_line("now", axis.percent(axis.now)))
    window = bar.expires_at if _has_open_window(bar) else None
    if window is not None and axis.start <= seconds_of(window) <= axis.end:
        marks.append(_line("window", axis.percent(seconds_of(window))))
    progress = "" if bar.total is None else f"; {describe_progress(bar.done, bar.total, bar.failed)}"
    return _svg(f"{bar.label}: {describe_times(bar, now)}{progress}", _box("track", 0, 100, 1), *marks)


def time_axis(axis: TimeAxis) -> Markup:
    """Return the labels of a time axis, as times since its start."""
    labels = []
    for position, text in axis.ticks():
        # The first and the last label stay inside of the picture.
        anchor = "start" if position < 5 else "end" if position > 95 else "middle"
        labels.append(_line("tick", position))
        labels.append(element("text", text, x=_percent(position), y="11", text_anchor=anchor))
    return _svg(None, *labels)


def timing_chart(
    bars: Sequence[BatchBar], now: datetime | None = None, *, title: str = "Batches", shown: int = SHOWN_BARS
) -> Markup:
    """Return a chart with one row for each batch, on a common time axis, with a legend.

    :param now: the current time, if batches may be running
    :param shown: the number of rows; a line says how many batches are left out
    """
    drawn = bars[:shown]
    axis = TimeAxis.of(drawn, now)
    since = f"since {utc(datetime.fromtimestamp(axis.start, UTC))}" if axis.ticks()[1:] else ""
    rows = [_row(since, time_axis(axis), "", class_="sf-row sf-axis")]
    for heading, of_group in groupby(drawn, lambda bar: bar.group):
        rows.append(element("div", heading, class_="sf-group") if heading else group())
        rows.extend(_row(bar.label, timing_bar(bar, axis, now), bar.note or bar.status) for bar in of_group)
    left = len(bars) - len(drawn)
    more = element("p", f"and {counted(left, 'more batch')}", class_="sf-muted") if left else None
    return element("figure", *rows, more, legend(axis, drawn), class_="sf-chart", role="group", aria_label=title)


def _row(label: str, picture: Markup, note: str, *, class_: str = "sf-row") -> Markup:
    return element(
        "div",
        element("bdi", label, class_="sf-label"),
        picture,
        element("bdi", note, class_="sf-note"),
        class_=class_,
    )


def legend(axis: TimeAxis, bars: Sequence[BatchBar]) -> Markup:
    """Return the meaning of the colors of bars, as a `figcaption`."""
    names = ["queued", "running", "finalizing"]
    names += ["now"] if axis.now is not None else []
    names += ["window"] if any(map(_has_open_window, bars)) else []
    texts = {"window": "end of the window"}
    keys = [
        element("span", element("i", class_=f"sf-key sf-{name}"), texts.get(name, name), class_="sf-legend-item")
        for name in names
    ]
    return element("figcaption", *keys, class_="sf-legend")


def _has_open_window(bar: BatchBar) -> bool:
    return bar.expires_at is not None and bar.ended_at is None


def _svg(text: str | None, *shapes: Markup) -> Markup:
    """Return a picture as wide as its place; without a text, readers of screens pass it by."""
    if text is None:
        return element("svg", *shapes, class_="sf-svg", width="100%", height=_HEIGHT, aria_hidden="true")
    return element(
        "svg", element("title", text), *shapes, class_="sf-svg", width="100%", height=_HEIGHT, role="img"
    )  # fmt: skip


def _box(name: str, start: float, width: float, height: int) -> Markup:
    top = (_HEIGHT - height) / 2
    return element(
        "rect", class_=f"sf-{name}", x=_percent(start), width=_percent(width), y=f"{top:g}", height=height
    )  # fmt: skip


def _line(name: str, position: float) -> Markup:
    x = _percent(position)
    return element("line", class_=f"sf-{name}", x1=x, x2=x, y1="0", y2=_HEIGHT)


def _percent(value: float) -> str:
    return f"{value:.2f}%"


def _status_class(status: str) -> str:
    return status if status in ("completed", "failed", "expired", "cancelled") else "other"
