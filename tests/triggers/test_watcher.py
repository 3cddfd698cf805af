"""Triggers of a connection share one poll."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import threading
import time
import weakref
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from siliconflow_provider.api import client as client_module
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.triggers import watcher
from siliconflow_provider.triggers.batches import BatchTrigger
from siliconflow_provider.triggers.watcher import searching, watching
from siliconflow_provider.waiting import BatchSearch
from siliconflow_provider.waiting.batch_wait import BatchWait, WaitEnd
from tests.trigger_runs import LIST, SINGLE, end_of, ends, states


def in_time(condition: Callable[[], bool]) -> bool:
    """Return True if a condition is true within five seconds: a thread may still be sending a request."""
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def has_no_threads() -> bool:
    """Return True if no thread of a watcher is running."""
    return not any(thread.name.startswith("siliconflow-") for thread in threading.enumerate())


class TestSharing:
    def test_fifty_waits_share_one_list_request(self, connection, batches, requests) -> None:
        found = ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(50)))
        assert states(found) == {("over", "completed")}
        assert requests()[SINGLE] == 0
        # Every 9 to 10 s for 115 s; a single wait would have polled as often.
        assert 10 <= requests()[LIST] <= 20

    @pytest.mark.parametrize(("number", "lists"), [(1, False), (2, False), (3, True)])
    def test_more_than_two_batches_use_the_list(self, connection, batches, requests, number, lists) -> None:
        ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(number)))
        assert (requests()[LIST] > 0, requests()[SINGLE] > 0) == (lists, not lists)

    def test_a_batch_of_two_triggers_is_polled_once(self, connection, batches, requests) -> None:
        (batch_id,) = batches(1)
        assert len(ends(*(BatchTrigger([batch_id], connection) for _ in range(9)))) == 9
        assert requests()[LIST] == 0
        assert requests()[SINGLE] <= 20

    def test_the_connection_is_read_once_in_a_thread(self, connection, batches, monkeypatch) -> None:
        readers, get_conn = [], SiliconFlowHook.get_conn

        def noting_get_conn(self: SiliconFlowHook) -> Any:
            readers.append(threading.current_thread().name)
            return get_conn(self)

        monkeypatch.setattr(SiliconFlowHook, "get_conn", noting_get_conn)
        ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(10)))
        (reader,) = readers
        assert reader.startswith("siliconflow-siliconflow_default")

    def test_no_more_than_four_requests_run_at_once(self, connection, batches, emulator, monkeypatch) -> None:
        emulator.control.fault(LIST, status=404, every=1)
        running, most, lock, get_batch = [], [], threading.Lock(), SiliconFlowClient.get_batch

        def counting_get_batch(self: SiliconFlowClient, batch_id: str) -> Any:
            with lock:
                running.append(batch_id)
                most.append(len(running))
            try:
                return get_batch(self, batch_id)
            finally:
                running.remove(batch_id)

        monkeypatch.setattr(SiliconFlowClient, "get_batch", counting_get_batch)
        assert states(ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(30)))) == {
            ("over", "completed")
        }
        assert max(most) <= 4

    def test_two_hundred_batches_log_few_lines(self, connection, batches, requests, logged) -> None:
        found = ends(BatchTrigger(batches(200), connection))
        assert len(found) == 200
        assert states(found) == {("over", "completed")}
        assert requests()[SINGLE] == 0
        lines = [line.partition("200 batches: ")[2] for line in logged().splitlines() if "200 batches: " in line]
        assert "in_queue" in lines[0]
        assert lines[-1].startswith("200 completed; 2,400 of 2,400 requests done")
        assert 5 <= len(lines) <= 20

    def test_waits_keep_only_needed_fields(self, connection, batches) -> None:
        (batch_id,) = batches(1)

        async def watch() -> list[dict[str, str]]:
            wait, seen = BatchWait(batch_id), []
            with watching(connection, [wait]) as watch:
                while not watch.is_over:
                    await watch.wait_for_update()
                    seen.append(wait.batch.metadata)
            return seen

        *before, end = asyncio.run(watch())
        assert set(map(len, before)) == {0}
        assert end == {"part": "0"}

    def test_a_fixed_interval_is_kept(self, connection, batches, requests) -> None:
        ends(*(BatchTrigger([batch_id], connection, poll_interval=40) for batch_id in batches(2)))
        # At 0, 36 to 40, 72 to 80, 108 to 120 and possibly 144 s.
        assert 8 <= requests()[SINGLE] <= 10

    def test_a_trigger_without_batches_ends(self, connection) -> None:
        async def run() -> Any:
            return [end.payload async for end in BatchTrigger([], connection).run()]

        assert asyncio.run(run()) == [{"waits": []}]


class TestJoiningAndLeaving:
    def test_leaving_stops_only_its_own_polls(self, connection, batches) -> None:
        first, second = map(BatchWait, batches(2))

        async def run() -> None:
            with watching(connection, [first]) as watch:
                await watch.wait_for_update()
                with watching(connection, [second]) as other:
                    await other.wait_for_update()
                left_at = second.asked_at
                for _ in range(3):
                    await watch.wait_for_update()
                assert second.asked_at == left_at < first.asked_at

        asyncio.run(run())

    def test_a_cancelled_trigger_stops_no_others(self, connection, batches) -> None:
        async def run() -> list[WaitEnd]:
            going, *cancelled = [
                asyncio.create_task(end_of(BatchTrigger([batch_id], connection))) for batch_id in batches(5)
            ]
            for _ in range(20):
                await asyncio.sleep(0)
            for item in cancelled:
                item.cancel()
            assert {type(entry) for entry in await asyncio.gather(*cancelled, return_exceptions=True)} == {
                asyncio.CancelledError
            }
            return await going

        assert states(asyncio.run(run())) == {("over", "completed")}

    @pytest.mark.parametrize("is_cancelled", [False, True])
    def test_the_last_one_out_stops_the_watcher(self, connection, batches, is_cancelled) -> None:
        async def run() -> None:
            waiting = asyncio.create_task(end_of(BatchTrigger(batches(3), connection)))
            if is_cancelled:
                while not pool_is_busy():
                    await asyncio.sleep(0)
                waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            for _ in range(5):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert in_time(has_no_threads)

        def pool_is_busy() -> bool:
            return any(thread.name.startswith("siliconflow-") for thread in threading.enumerate())

        asyncio.run(run())

    def test_a_late_trigger_gets_a_new_watcher(self, connection, batches) -> None:
        async def run() -> list[WaitEnd]:
            await end_of(BatchTrigger(batches(1), connection))
            return await end_of(BatchTrigger(batches(1), connection))

        assert states(asyncio.run(run())) == {("over", "completed")}

    def test_a_loop_that_died_is_not_kept(self, connection, batches) -> None:
        """Its triggers were not cancelled before."""

        async def wait_for_news(wait: BatchWait) -> None:
            with watching(connection, [wait]) as watch:
                await watch.wait_for_update()
                await asyncio.Event().wait()

        loop = asyncio.new_event_loop()
        wait = BatchWait(*batches(1))
        waiting = loop.create_task(wait_for_news(wait))
        while wait.batch is None:
            loop.run_until_complete(asyncio.sleep(0))
        kept, key = weakref.ref(loop), (id(loop), connection)
        assert key in watcher._watchers
        loop.close()
        del loop, waiting

        def is_forgotten() -> bool:
            gc.collect()
            # A thread keeps a reference to the last loop that it worked for.
            return key not in watcher._watchers and kept() is None

        assert in_time(is_forgotten)
        assert in_time(has_no_threads)


class TestList:
    @pytest.mark.parametrize(
        "forms",
        [Forms(list_without_metadata=True), Forms(unpaged=True), Forms(result_ids=True, error_objects=True)],
        ids=["without metadata", "unpaged", "other forms"],
    )
    def test_its_forms_make_no_difference(self, connection, batches, requests) -> None:
        found = ends(BatchTrigger(batches(5), connection))
        assert [item.batch and item.batch.request_counts.completed for item in found] == [12] * 5
        assert requests()[SINGLE] == 0

    @pytest.mark.parametrize("forms", [Forms(list_without_times=True)])
    def test_items_without_times_lead_to_single_polls(self, connection, batches, requests) -> None:
        found = ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(10)))
        assert {item.batch and item.batch.timing.total.in_seconds() for item in found} == {115}
        # One line at the start, and one for each of the statuses in_progress, finalizing and completed.
        assert 20 <= requests()[SINGLE] <= 40
        assert requests()[LIST] >= 10

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=50)])
    def test_unlisted_batches_are_polled_singly(self, connection, batches, requests, clock) -> None:
        assert states(ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(4)))) == {
            ("over", "completed")
        }
        assert 4 * 5 <= requests()[SINGLE] <= 4 * 8
        assert requests()[LIST] >= 10

    def test_a_failed_batch_is_polled_for_its_errors(self, connection, client, emulator, requests, sums) -> None:
        emulator.control.plan(end="failed", errors=["no such model"], times=3)
        file_id = client.upload_file(io.BytesIO(sums(2))).id
        found = ends(*(BatchTrigger([client.create_batch(file_id).id], connection) for _ in range(3)))
        assert [item.batch and item.batch.errors for item in found] == [["no such model"]] * 3
        assert requests()[SINGLE] == 3

    def test_pages_are_followed_only_as_far_as_needed(self, connection, batches, requests, clock, monkeypatch) -> None:
        monkeypatch.setattr(client_module, "PAGE_SIZE", 10)
        batches(40)
        clock.advance(5)
        newest = batches(10)
        assert states(ends(*(BatchTrigger([batch_id], connection) for batch_id in newest))) == {("over", "completed")}
        assert requests()[SINGLE] == 0
        assert requests()[LIST] <= 20

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=50)])
    def test_older_pages_are_not_searched_for_younger_batches(
        self, connection, batches, requests, clock, monkeypatch
    ) -> None:
        monkeypatch.setattr(client_module, "PAGE_SIZE", 10)
        batches(40)
        clock.advance(60)
        assert states(ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(6)))) == {
            ("over", "completed")
        }
        # The first poll does not know the batches' ages, so it may read all pages.
        assert requests()[LIST] <= 5 + 20

    def test_few_old_batches_are_polled_singly(self, connection, batches, requests, clock, monkeypatch) -> None:
        monkeypatch.setattr(client_module, "PAGE_SIZE", 10)
        oldest = batches(3)
        clock.advance(5)
        batches(60)
        assert states(ends(*(BatchTrigger([batch_id], connection) for batch_id in oldest))) == {("over", "completed")}
        assert requests()[LIST] * 3 == pytest.approx(requests()[SINGLE])

    @pytest.mark.parametrize("fault", [{"status": 404}, {"status": 500}, {"kind": "garbage"}], ids=str)
    def test_a_list_that_fails_is_done_without(self, connection, batches, emulator, requests, fault) -> None:
        emulator.control.fault(LIST, every=1, **fault)
        found = ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(6)))
        assert states(found) == {("over", "completed")}
        assert {item.error for item in found} == {None}
        assert requests()[LIST] <= 6 * 4


def test_other_tasks_run_during_a_long_page(connection, batch, monkeypatch) -> None:
    page = [batch("failed", id=str(number), failed_at=10) for number in range(1_000)]
    monkeypatch.setattr(SiliconFlowClient, "batch_page", lambda *_: (page, None))
    search = BatchSearch({}, ["failed"], 60.0, lookback=inf)

    async def run() -> set[int]:
        recorded = set()
        with searching(connection, search) as watch:
            listed = asyncio.create_task(watch.wait_for_update())
            while not listed.done():
                recorded.add(len(search.ended))
                await asyncio.sleep(0)
            await listed
        return recorded

    assert len(asyncio.run(asyncio.wait_for(run(), 30))) > 10


def test_all_triggers_fire_in_real_time(tmp_path, sums, monkeypatch) -> None:
    options = EmulatorOptions(data_dir=tmp_path, control=True, queue_seconds=0, run_seconds=0.5, finalize_seconds=0)
    with Emulator(options) as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(emulator.airflow_connection))
        client = SiliconFlowClient(emulator.api_key, emulator.base_url)
        file_id = client.upload_file(io.BytesIO(sums(2))).id
        ids = [client.create_batch(file_id).id for _ in range(20)]

        async def late(number: int, batch_id: str) -> list[WaitEnd]:
            await asyncio.sleep(0.02 * number)
            return await end_of(BatchTrigger([batch_id], poll_interval=0.3))

        async def run() -> list[list[WaitEnd]]:
            return await asyncio.gather(*(late(number, thread) for number, thread in enumerate(ids)))

        found = [end for item in asyncio.run(run()) for end in item]
        assert states(found) == {("over", "completed")}
        assert [item.batch_id for item in found] == ids
