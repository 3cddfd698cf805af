"""Compute the phases of batches, and their common time axis. Times may be missing or senseless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median_low

from siliconflow_provider.drawing.numbers import seconds_of

# A time further from the others, such as year 1970 or 9999, would leave them no width.
_LONGEST_AXIS = timedelta(days=366).total_seconds()
# The axis goes on to the window's end if the time before it keeps a quarter of the width.
_MOST_AHEAD = 3
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_STEPS = (
    *(1, 2, 5, 10, 20, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY),
)
_MOST_STEPS = 4


@dataclass(frozen=True)
class BatchBar:
    """One batch in a chart.

    :param label: its name
    :param status: its status, as the service says it
    :param done: the number of its answered requests
    :param total: the number of its requests
    :param failed: the number of its refused requests
    :param group: a heading, such as its round; batches of one group stand together
    :param note: a short text beside the bar
    """

    label: str
    created_at: datetime | None = None
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    status: str = ""
    done: int | None = None
    total: int | None = None
    failed: int | None = None
    group: str = ""
    note: str = ""


@dataclass(frozen=True)
class Phase:
    """A part of a batch's time, in Unix seconds.

    :param name: `queued`, `running` or `finalizing`
    """

    name: str
    start: float
    end: float


def phases_of(bar: BatchBar, now: datetime | None = None) -> list[Phase]:
    """Return the phases of a batch that it has reached, in order; none if their times are not known.

    :param now: the end of a batch that is not over; by default its last known time
    """
    reached = [("queued", bar.created_at), ("running", bar.in_progress_at), ("finalizing", bar.finalizing_at)]
    known = [(name, seconds_of(moment)) for name, moment in reached if moment is not None]
    if not known:
        return []
    end = bar.ended_at or now
    last = max(known[0][1], max(moment for _, moment in known) if end is None else seconds_of(end))
    phases: list[Phase] = []
    for name, moment in known:
        start = min(max(moment, phases[-1].start), last) if phases else moment
        if phases:
            phases[-1] = replace(phases[-1], end=start)
        phases.append(Phase(name, start, last))
    return phases


@dataclass(frozen=True)
class TimeAxis:
    """A common time axis of batches, in Unix seconds.

    :param now: the current time, if a batch is not over
    """

    start: float = 0.0
    end: float = 0.0
    now: float | None = None

    @classmethod
    def of(cls, bars: Sequence[BatchBar], now: datetime | None = None) -> TimeAxis:
        """Return the axis from the first creation to the last end, or to now if a batch is not over."""
        phases = [phases for bar in bars if (phases := phases_of(bar, now))]
        if not phases:
            return cls()
        middle = median_low(of_bar[0].start for of_bar in phases)
        moments = [moment for of_bar in phases for phase in of_bar for moment in (phase.start, phase.end)]
        near = [moment for moment in moments if abs(moment - middle) <= _LONGEST_AXIS]
        start, end = min(near), max(near)
        is_open = now is not None and any(bar.ended_at is None for bar in bars)
        windows = [seconds_of(bar.expires_at) for bar in bars if bar.ended_at is None and bar.expires_at is not None]
        ahead = [window for window in windows if end < window <= end + (end - start) * _MOST_AHEAD]
        return cls(start, max([end, *ahead]), seconds_of(now) if is_open and now is not None else None)

    def percent(self, moment: float) -> float:
        """Return the position of a time, from 0 to 100. Times before and after the axis are at its ends."""
        if self.end <= self.start:
            return 0.0
        return min(max((moment - self.start) / (self.end - self.start), 0.0), 1.0) * 100

    def ticks(self) -> list[tuple[float, str]]:
        """Return at most five positions in percent, each with the time since the start, such as `2h`."""
        length = self.end - self.start
        step = next((step for step in _STEPS if length <= step * _MOST_STEPS), _STEPS[-1])
        count = int(length // step) if length > 0 else 0
        return [(self.percent(self.start + index * step), _short(index * step)) for index in range(count + 1)]


def _short(seconds: int) -> str:
    """Return a round duration in its largest units, such as `90` seconds as `1m 30s`."""
    units = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"), (1, "s"))
    found = []
    for length, unit in units:
        count, seconds = divmod(seconds, length)
        if count:
            found.append(f"{count}{unit}")
    return " ".join(found) or "0"
