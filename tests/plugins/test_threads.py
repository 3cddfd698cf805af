from __future__ import annotations

import asyncio
from threading import Event

import pytest

from siliconflow_provider.plugins.threads import BusyError, Threads


def test_result_and_error_reach_the_caller() -> None:
    threads = Threads(1)
    assert asyncio.run(threads.run(lambda: 7, 10)) == 7
    with pytest.raises(ZeroDivisionError):
        asyncio.run(threads.run(lambda: 1 // 0, 10))


def test_a_stuck_call_keeps_only_its_thread() -> None:
    threads, end = Threads(1), Event()

    async def run_two() -> None:
        with pytest.raises(TimeoutError):
            await threads.run(lambda: end.wait(10), 0.01)
        with pytest.raises(BusyError):
            await threads.run(lambda: True, 10)

    asyncio.run(run_two())
    end.set()
    stuck = threads  # its thread is free again, a moment later
    for _ in range(1_000):
        try:
            assert stuck.start(lambda: 5).result(10) == 5
            return
        except BusyError:
            Event().wait(0.001)
    pytest.fail("the thread stays busy")
