"""24 virtual hours of one batch and of 1,000: what fixed intervals and our schedule ask, and how late they see the end.

The fixed ones send a request for each batch. Ours is the watcher itself with its clock and its client replaced: 1,000
batches begin within an hour and run for 10 minutes to 23 hours. No real time passes.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from statistics import median
from types import SimpleNamespace

import pendulum

HOUR = 3600.0
BEGIN = 1_800_000_000.0
PAGE = 100
INTERVALS = (3, 30, 60)


def lengths(number: int) -> list[tuple[float, float]]:
    """Return when each batch begins and ends, oldest first."""
    if number == 1:
        # No multiple of the intervals, which would see its end at once.
        return [(BEGIN, BEGIN + 85_697)]
    chance = random.Random(number)
    begins = sorted(BEGIN + chance.uniform(0, HOUR) for _ in range(number))
    return [(begin, begin + chance.uniform(HOUR / 6, 23 * HOUR)) for begin in begins]


def fixed(batches: list[tuple[float, float]], interval: float) -> tuple[int, list[float]]:
    """Return the polls of a fixed interval, and how late each end is seen."""
    polls = [math.ceil((end - begin) / interval) for begin, end in batches]
    late = [begin + count * interval - end for count, (begin, end) in zip(polls, batches, strict=True)]
    return sum(polls) + len(polls), late


class Day:
    """The service's client and the clock of a day that passes as fast as it is slept through."""

    def __init__(self, batches: list[tuple[float, float]]) -> None:
        self.now, self.requests, self.late = batches[0][0], 0, []
        self.batches = {f"batch_{number:04}": moments for number, moments in enumerate(batches)}
        self._left, self._waits = list(reversed(self.batches)), []

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and have the batches waited for that have begun meanwhile."""
        self.now += seconds
        self._begin()

    def get_batch(self, batch_id: str) -> object:
        """Answer for a single batch."""
        self.requests += 1
        return self._batch(batch_id)

    def batch_page(self, after: str | None) -> tuple[list[object], str | None]:
        """Answer with a page of what there is by now, newest first."""
        self.requests += 1
        begun = [batch_id for batch_id, (begin, _) in self.batches.items() if begin <= self.now][::-1]
        start = begun.index(after) + 1 if after else 0
        page = begun[start : start + PAGE]
        return [self._batch(each) for each in page], page[-1] if start + PAGE < len(begun) else None

    def _batch(self, batch_id: str) -> object:
        from siliconflow_provider.api.models import Batch

        begin, end = map(int, self.batches[batch_id])
        times = {"created_at": begin, "in_progress_at": begin, "expires_at": begin + 86400}
        if self.now >= self.batches[batch_id][1]:
            times["completed_at"] = end
        counts = {"total": 1, "completed": 0, "failed": 0}
        status = "completed" if "completed_at" in times else "in_progress"
        return Batch.from_json({"id": batch_id, "status": status, "request_counts": counts, **times})

    async def pass_by(self) -> None:
        """Have every batch waited for by a trigger of its own from its beginning on."""
        self._begin()
        while self._waits:
            await asyncio.gather(*self._waits)
            self._waits = [each for each in self._waits if not each.done()]

    def _begin(self) -> None:
        while self._left and self.batches[self._left[-1]][0] <= self.now:
            self._waits.append(asyncio.ensure_future(self._wait(self._left.pop())))

    async def _wait(self, batch_id: str) -> None:
        from siliconflow_provider.triggers.batches import BatchTrigger

        async for _ in BatchTrigger([batch_id]).run():
            self.late.append(self.now - self.batches[batch_id][1])


def shared(batches: list[tuple[float, float]]) -> tuple[int, list[float]]:
    """Return the watcher's requests, and how late each end is seen."""
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    os.environ["AIRFLOW_CONN_SILICONFLOW_DEFAULT"] = json.dumps(
        {"conn_type": "siliconflow", "password": "sk-benchmark"}
    )
    from siliconflow_provider.api import clock
    from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

    day = Day(batches)
    clock.now = lambda: pendulum.from_timestamp(day.now)
    clock.sleep_async = day.sleep
    SiliconFlowHook.get_conn = lambda self: day
    asyncio.run(day.pass_by())
    return day.requests, day.late


def main() -> None:
    """Print the table."""
    print(
        f"{'24 virtual hours':<26}{'batches':>8}{'requests':>12}{'per batch':>11}{'late p50':>10}{'p99':>7}{'max s':>7}"
    )
    rows = [
        SimpleNamespace(label=f"every {each} s", run=lambda batches, each=each: fixed(batches, each))
        for each in INTERVALS
    ]
    for number in (1, 1000):
        for row in [*rows, SimpleNamespace(label="siliconflow, own schedule", run=shared)]:
            batches = lengths(number)
            requests, late = row.run(batches)
            p99 = sorted(late)[math.ceil(len(late) * 0.99) - 1]
            print(
                f"{row.label:<26}{number:>8,}{requests:>12,}{requests / number:>11,.0f}{median(late):>10.1f}{p99:>7.1f}"
                f"{max(late):>7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
