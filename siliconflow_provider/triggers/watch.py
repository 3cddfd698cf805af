"""The waits of one trigger, which a watcher updates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf

import pendulum

from siliconflow_provider.waiting import BatchWait


class Watch:
    """The waits of one trigger, and the signal that they have changed.

    :param now: returns the current time by the service's clock
    """

    def __init__(self, waits: Sequence[BatchWait], now: Callable[[], pendulum.DateTime]) -> None:
        self.waits = waits
        self.now = now
        self._updated = asyncio.Event()
        self._error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Return True if all waits are over."""
        return all(wait.due_at is None for wait in self.waits)

    async def wait_for_update(self, seconds: float = inf) -> bool:
        """Wait until the waits have been updated, at most for `seconds`. Raise the error of the watcher, if any.

        :return: True if there was an update
        """
        # Not `wait_for`: up to Python 3.11 it may swallow a cancellation.
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == inf else seconds):
                await self._updated.wait()
        is_updated = self._updated.is_set()
        self._updated.clear()
        if self._error is not None:
            raise self._error.with_traceback(None)
        return is_updated

    def notify(self, error: Exception | None = None) -> None:
        """End `wait_for_update`. With an error, `wait_for_update` raises it."""
        self._error = self._error or error
        self._updated.set()
