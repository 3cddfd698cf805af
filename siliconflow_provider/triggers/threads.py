"""Run blocking calls in threads, outside of a triggerer's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")


async def run_in_thread(pool: ThreadPoolExecutor, action: Callable[[], T]) -> T:
    """Run a blocking action in a thread of a pool, and return its result.

    The action may ask Airflow, for example for a connection or a task's state. Up to Airflow 3.2.1 such a request uses
    the only channel between triggerer and supervisor, which belongs to this event loop. asgiref gives the thread
    access to the loop; from a plain executor thread, the request would break the channel and end the triggerer.

    The action continues if the caller is cancelled: a request whose response nobody reads breaks the channel too.
    """
    return await asyncio.shield(sync_to_async(action, thread_sensitive=False, executor=pool)())
