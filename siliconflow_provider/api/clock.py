"""The present, and waiting for a later one: all that tests replace to make hours pass."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any

import pendulum

# A date is of whole seconds, and as old as its answer was under way.
SMALLEST_DIFFERENCE = timedelta(minutes=1)
# What is farther off is no clock, but a device without one, or a fixed text.
LARGEST_DIFFERENCE = timedelta(days=30)


def now() -> pendulum.DateTime:
    """Return the present moment in UTC."""
    return pendulum.now("UTC")


def sleep(seconds: float) -> None:
    """Block for so many seconds."""
    time.sleep(seconds)


def wait_for(queue: SimpleQueue[Any], seconds: float) -> bool:
    """Block until something is put into the queue, for so many seconds at most; return whether it was."""
    try:
        queue.get(timeout=seconds)
    except Empty:
        return False
    return True


async def sleep_async(seconds: float) -> None:
    """Leave the event loop to others for so many seconds."""
    await asyncio.sleep(seconds)


class ServiceClock:
    """The present as the service has it: by our clock, until the date of an answer shows that the two differ."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def note(self, date: str | None) -> None:
        """Take in the `Date` header of an answer that has just come; what is none says nothing."""
        try:
            told = parsedate_to_datetime(date or "")
        except (TypeError, ValueError, OverflowError):
            return
        if told.tzinfo is None:
            return
        ahead = timedelta(seconds=told.timestamp() - now().timestamp())
        if abs(ahead) <= LARGEST_DIFFERENCE:
            self._ahead = ahead if abs(ahead) >= SMALLEST_DIFFERENCE else timedelta()

    def now(self) -> pendulum.DateTime:
        """Return the present moment in UTC."""
        return now() + self._ahead
