"""The present, and waiting for a later one: all that tests replace to make hours pass."""

from __future__ import annotations

import asyncio
import threading
import time

import pendulum


def now() -> pendulum.DateTime:
    """Return the present moment in UTC."""
    return pendulum.now("UTC")


def sleep(seconds: float) -> None:
    """Block for so many seconds."""
    time.sleep(seconds)


def wait_for(event: threading.Event, seconds: float) -> bool:
    """Block until the event is set, for so many seconds at most; return whether it is set."""
    return event.wait(seconds)


async def sleep_async(seconds: float) -> None:
    """Leave the event loop to others for so many seconds."""
    await asyncio.sleep(seconds)
