from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync

from siliconflow_provider.triggers.threads import run_in_thread


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="own") as own:
        yield own


def test_requests_to_airflow_run_on_the_callers_loop(pool) -> None:
    """Up to Airflow 3.2.1 requests use `async_to_sync`, over a channel that belongs to the triggerer's loop."""

    async def request_to_airflow() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def run() -> None:
        loop = await run_in_thread(pool, lambda: async_to_sync(request_to_airflow)())
        assert loop is asyncio.get_running_loop()

    asyncio.run(run())


def test_a_request_to_airflow_outlives_its_cancelled_caller(pool) -> None:
    async def run() -> None:
        sent, answered, read = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def request_to_airflow() -> None:
            sent.set()
            await answered.wait()
            read.set()

        waiting = asyncio.create_task(run_in_thread(pool, lambda: async_to_sync(request_to_airflow)()))
        await sent.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        answered.set()
        await asyncio.wait_for(read.wait(), 10)

    asyncio.run(run())


def test_it_runs_in_the_given_pool_and_raises(pool) -> None:
    def fail() -> None:
        raise ValueError(threading.current_thread().name)

    with pytest.raises(ValueError, match="own_0"):
        asyncio.run(run_in_thread(pool, fail))
