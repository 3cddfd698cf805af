"""The current time, and sleeping. Tests replace these functions to let hours pass."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any

import pendulum

# A Date header has whole seconds, and the response took time to arrive.
SMALLEST_DIFFERENCE = timedelta(minutes=1)
# A larger difference does not come from a clock, but from a device without one or from a fixed text.
LARGEST_DIFFERENCE = timedelta(days=30)


def now() -> pendulum.DateTime:
    """Return the current time in UTC."""
    return pendulum.now("UTC")


def sleep(seconds: float) -> None:
    """Block for this number of seconds."""
    time.sleep(seconds)


def wait_for(queue: SimpleQueue[Any], seconds: float) -> bool:
    """Block until the queue has an item, at most this number of seconds. Return True if it had one."""
    try:
        queue.get(timeout=seconds)
    except Empty:
        return False
    return True


async def sleep_async(seconds: float) -> None:
    """Sleep without blocking the event loop."""
    await asyncio.sleep(seconds)


class ServiceClock:
    """The service's clock: the local clock, corrected by the `Date` header of responses."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def note(self, date: str | None) -> None:
        """Correct the clock by the `Date` header of a response that just arrived. Ignore an invalid header."""
        try:
            service_time = parsedate_to_datetime(date or "")
        except (TypeError, ValueError, OverflowError):
            return
        if service_time.tzinfo is None:
            return
        ahead = timedelta(seconds=service_time.timestamp() - now().timestamp())
        if abs(ahead) <= LARGEST_DIFFERENCE:
            self._ahead = ahead if abs(ahead) >= SMALLEST_DIFFERENCE else timedelta()

    def now(self) -> pendulum.DateTime:
        """Return the service's current time in UTC."""
        return now() + self._ahead
