"""Run blocking calls outside of the API server's event loop and of its threads, and only a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import BoundedSemaphore, Thread
from typing import TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """All threads are busy."""


class Threads:
    """Start a thread for each call. A call that never ends keeps its thread, but not the server from stopping.

    :param most: calls at a time; a further one is refused
    """

    def __init__(self, most: int) -> None:
        self._free = BoundedSemaphore(most)

    def start(self, action: Callable[[], T]) -> Future[T]:
        """Start a call, and return its future.

        :raises BusyError: if all threads are busy
        """
        if not self._free.acquire(blocking=False):
            raise BusyError
        future: Future[T] = Future()
        try:
            Thread(target=self._run, args=(action, future), name="siliconflow-page", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._free.release()
            raise BusyError from None
        return future

    async def run(self, action: Callable[[], T], seconds: float) -> T:
        """Run a call, and return its result.

        :param seconds: after this time the caller stops waiting; the call goes on
        :raises BusyError: if all threads are busy
        :raises TimeoutError: if the call takes longer
        """
        return await asyncio.wait_for(asyncio.wrap_future(self.start(action)), seconds)

    def _run(self, action: Callable[[], T], future: Future[T]) -> None:
        try:
            # A caller that stopped waiting has cancelled the future; its call is not worth beginning then.
            if future.set_running_or_notify_cancel():
                future.set_result(action())
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._free.release()
