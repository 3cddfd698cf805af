"""The present, and waiting for a later one: all that tests replace to make hours pass."""

from __future__ import annotations

import asyncio
import time
from queue import Empty, SimpleQueue
from typing import Any

import pendulum


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
