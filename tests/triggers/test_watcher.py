from __future__ import annotations

import asyncio
import gc
import io
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pendulum
import pytest
from asgiref.sync import async_to_sync

from siliconflow_provider.api import client as client_module
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.triggers import batches as triggers
from siliconflow_provider.triggers import connection as connection_module
from siliconflow_provider.triggers import watcher
from siliconflow_provider.triggers.batches import BatchTrigger
from siliconflow_provider.triggers.connection import secrets_backends
from siliconflow_provider.triggers.watcher import watching
from siliconflow_provider.waiting.batch_wait import BatchWait, WaitEnd
from siliconflow_provider.waiting.events import from_event

LIST, SINGLE = "GET /batches", "GET /batches/{id}"


@pytest.fixture
def batches(client: SiliconFlowClient, sums: Callable[[int], bytes]) -> Callable[[int], list[str]]:
    """Creates so many batches of twelve requests."""

    def create(number: int) -> list[str]:
        file_id = client.upload_file(io.BytesIO(sums(12))).id
        return [client.create_batch(file_id, metadata={"part": str(each)}).id for each in range(number)]

    return create


@pytest.fixture
def requests(emulator: Emulator) -> Callable[[], dict[str, int]]:
    """Counts the requests for the list and for single batches."""
    return lambda: {each: sum(emulator.control.answers()[each].values()) for each in (LIST, SINGLE)}


@pytest.fixture
def connect(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes another connection to the emulator, or changes one; gives its id."""

    def set_connection(conn_id: str, api_key: str, **extra: Any) -> str:
        value = {"conn_type": "siliconflow", "host": emulator.base_url, "password": api_key, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    return set_connection


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections come from the environment alone: on Airflow 2 a missing database is a backend that fails."""
    monkeypatch.setattr(connection_module, "secrets_backends", lambda: secrets_backends()[:1])


async def end_of(trigger: BatchTrigger) -> list[WaitEnd]:
    (event,) = [each.payload async for each in trigger.run()]
    return from_event(json.loads(json.dumps(event)))


def ends(*triggers: BatchTrigger) -> list[WaitEnd]:
    """Run triggers side by side, as a triggerer does, and return how all their waits ended."""

    async def run() -> list[list[WaitEnd]]:
        return await asyncio.gather(*map(end_of, triggers))

    return [end for each in asyncio.run(run()) for end in each]


def states(found: list[WaitEnd]) -> set[Any]:
    return {(each.state, each.batch and each.batch.status) for each in found}


def in_time(condition: Callable[[], bool]) -> bool:
    """Whether a condition holds, or comes to hold within five seconds: a thread may still be at a request."""
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def has_no_threads() -> bool:
    """Whether no thread of a watcher is left."""
    return not any(each.name.startswith("siliconflow-") for each in threading.enumerate())


class TestSharing:
    def test_fifty_waits_cost_one_list_a_sweep(self, connection, batches, requests) -> None:
        found = ends(*(BatchTrigger([each], connection) for each in batches(50)))
        assert states(found) == {("over", "completed")}
        assert requests()[SINGLE] == 0
        # Every 9 to 10 s for 115 s; each wait by itself would have asked as often.
        assert 10 <= requests()[LIST] <= 20

    @pytest.mark.parametrize(("number", "lists"), [(1, False), (2, False), (3, True)])
    def test_more_than_two_batches_use_the_list(self, connection, batches, requests, number, lists) -> None:
        ends(*(BatchTrigger([each], connection) for each in batches(number)))
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
        ends(*(BatchTrigger([each], connection) for each in batches(10)))
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
        assert states(ends(*(BatchTrigger([each], connection) for each in batches(30)))) == {("over", "completed")}
        assert max(most) <= 4

    def test_two_hundred_batches_log_few_lines(self, connection, batches, requests, logged) -> None:
        found = ends(BatchTrigger(batches(200), connection))
        assert len(found) == 200
        assert states(found) == {("over", "completed")}
        assert requests()[SINGLE] == 0
        lines = [each.partition("200 batches: ")[2] for each in logged().splitlines() if "200 batches: " in each]
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
        ends(*(BatchTrigger([each], connection, poll_interval=40) for each in batches(2)))
        # At 0, 36 to 40, 72 to 80, 108 to 120 and possibly 144 s.
        assert 8 <= requests()[SINGLE] <= 10

    def test_a_trigger_without_batches_ends(self, connection) -> None:
        async def run() -> Any:
            return [each.payload async for each in BatchTrigger([], connection).run()]

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

    def test_a_cancelled_trigger_takes_nobody_along(self, connection, batches) -> None:
        async def run() -> list[WaitEnd]:
            going, *cancelled = [asyncio.create_task(end_of(BatchTrigger([each], connection))) for each in batches(5)]
            for _ in range(20):
                await asyncio.sleep(0)
            for each in cancelled:
                each.cancel()
            assert {type(each) for each in await asyncio.gather(*cancelled, return_exceptions=True)} == {
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
            return any(each.name.startswith("siliconflow-") for each in threading.enumerate())

        asyncio.run(run())

    def test_a_late_trigger_gets_a_new_watcher(self, connection, batches) -> None:
        async def run() -> list[WaitEnd]:
            await end_of(BatchTrigger(batches(1), connection))
            return await end_of(BatchTrigger(batches(1), connection))

        assert states(asyncio.run(run())) == {("over", "completed")}

    def test_a_loop_that_died_is_not_kept(self, connection, batches) -> None:
        """Its triggers were not even cancelled."""

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
            # A thread knows of the loop for which it worked last.
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
        assert [each.batch and each.batch.request_counts.completed for each in found] == [12] * 5
        assert requests()[SINGLE] == 0

    @pytest.mark.parametrize("forms", [Forms(list_without_times=True)])
    def test_items_without_times_lead_to_single_polls(self, connection, batches, requests) -> None:
        found = ends(*(BatchTrigger([each], connection) for each in batches(10)))
        assert {each.batch and each.batch.timing.total.in_seconds() for each in found} == {115}
        # Once at first and once for each of the statuses in_progress, finalizing and completed.
        assert 20 <= requests()[SINGLE] <= 40
        assert requests()[LIST] >= 10

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=50)])
    def test_unlisted_batches_are_polled_singly(self, connection, batches, requests, clock) -> None:
        assert states(ends(*(BatchTrigger([each], connection) for each in batches(4)))) == {("over", "completed")}
        assert 4 * 5 <= requests()[SINGLE] <= 4 * 8
        assert requests()[LIST] >= 10

    def test_a_failed_batch_is_polled_for_its_errors(self, connection, client, emulator, requests, sums) -> None:
        emulator.control.plan(end="failed", errors=["no such model"], times=3)
        file_id = client.upload_file(io.BytesIO(sums(2))).id
        found = ends(*(BatchTrigger([client.create_batch(file_id).id], connection) for _ in range(3)))
        assert [each.batch and each.batch.errors for each in found] == [["no such model"]] * 3
        assert requests()[SINGLE] == 3

    def test_pages_are_followed_only_as_far_as_needed(self, connection, batches, requests, clock, monkeypatch) -> None:
        monkeypatch.setattr(client_module, "PAGE_SIZE", 10)
        batches(40)
        clock.advance(5)
        newest = batches(10)
        assert states(ends(*(BatchTrigger([each], connection) for each in newest))) == {("over", "completed")}
        assert requests()[SINGLE] == 0
        assert requests()[LIST] <= 20

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=50)])
    def test_older_pages_are_not_searched_for_younger_batches(
        self, connection, batches, requests, clock, monkeypatch
    ) -> None:
        monkeypatch.setattr(client_module, "PAGE_SIZE", 10)
        batches(40)
        clock.advance(60)
        assert states(ends(*(BatchTrigger([each], connection) for each in batches(6)))) == {("over", "completed")}
        # The first sweep knows of no age: it may look through all pages.
        assert requests()[LIST] <= 5 + 20

    def test_few_old_batches_are_polled_singly(self, connection, batches, requests, clock, monkeypatch) -> None:
        monkeypatch.setattr(client_module, "PAGE_SIZE", 10)
        oldest = batches(3)
        clock.advance(5)
        batches(60)
        assert states(ends(*(BatchTrigger([each], connection) for each in oldest))) == {("over", "completed")}
        assert requests()[LIST] * 3 == pytest.approx(requests()[SINGLE])

    @pytest.mark.parametrize("fault", [{"status": 404}, {"status": 500}, {"kind": "garbage"}], ids=str)
    def test_a_list_that_fails_is_done_without(self, connection, batches, emulator, requests, fault) -> None:
        emulator.control.fault(LIST, every=1, **fault)
        found = ends(*(BatchTrigger([each], connection) for each in batches(6)))
        assert states(found) == {("over", "completed")}
        assert {each.error for each in found} == {None}
        assert requests()[LIST] <= 6 * 4


class TestFailing:
    def test_an_outage_costs_few_requests_and_no_wait(self, connect, batches, emulator, clock, requests) -> None:
        connection = connect("quick_to_fail", emulator.api_key, max_retries=0)
        for endpoint in (LIST, SINGLE):
            emulator.control.fault(endpoint, status=503, every=1)
        during: list[int] = []
        clock.after(600, lambda: during.append(sum(requests().values())))
        clock.after(600, emulator.control.reset)
        found = ends(*(BatchTrigger([each], connection) for each in batches(60)))
        assert states(found) == {("over", "completed")}
        # Growing pauses, and after four failures in a row the rest is not asked for; each by itself would take some 7.
        assert during[0] <= 60

    def test_an_unknown_batch_does_not_delay_others(self, connection, batches, requests) -> None:
        found = ends(*(BatchTrigger([each], connection) for each in ["batch_unknown", *batches(4)]))
        assert (found[0].state, states(found[1:])) == ("error", {("over", "completed")})

    def test_a_rejected_key_affects_only_its_connection(self, connection, batches, connect) -> None:
        refused = connect("refused", "sk-wrong")
        ids = batches(8)
        triggers = [BatchTrigger([each], conn_id) for each in ids for conn_id in (connection, refused)]
        found = ends(*triggers)
        assert states(found[::2]) == {("over", "completed")}
        assert {(each.state, "Invalid token" in str(each.error)) for each in found[1::2]} == {("error", True)}

    def test_a_rotated_key_is_picked_up(self, batches, connect, emulator, clock, monkeypatch) -> None:
        rotated = connect("rotated", "sk-old")
        clock.after(300, lambda: connect("rotated", emulator.api_key))
        reads, get_conn = [], SiliconFlowHook.get_conn

        def noting_get_conn(self: SiliconFlowHook) -> Any:
            reads.append(clock.now)
            return get_conn(self)

        monkeypatch.setattr(SiliconFlowHook, "get_conn", noting_get_conn)
        found = ends(*(BatchTrigger([each], rotated, poll_interval=5) for each in batches(5)))
        assert states(found) == {("over", "completed")}
        assert {each.error for each in found} == {None}
        assert min(later - earlier for earlier, later in pairwise(reads)) >= 60

    @pytest.mark.parametrize("changed_after", [300, None])
    @pytest.mark.parametrize(
        ("api_key", "reason"), [(None, "connection 'late' does not exist"), ("", "connection 'late' has no password")]
    )
    def test_an_unusable_connection_gets_an_hour(
        self, batches, connect, no_database, emulator, clock, logged, api_key, reason, changed_after
    ) -> None:
        if api_key is not None:
            connect("late", api_key)
        if changed_after is not None:
            clock.after(changed_after, lambda: connect("late", emulator.api_key))
        start = clock.now
        found = ends(*(BatchTrigger([each], "late") for each in batches(3)))
        assert f"failed, will keep trying: {reason}" in logged()
        if changed_after is not None:
            assert states(found) == {("over", "completed")}
        else:
            assert {(each.state, reason in str(each.error)) for each in found} == {("error", True)}
            assert 3600 <= clock.now - start <= 3900

    def test_a_secrets_backend_that_fails_ends_no_wait(
        self, batches, connect, emulator, clock, monkeypatch, logged
    ) -> None:
        """Airflow skips it, and says that the connection does not exist."""
        backend = type(secrets_backends()[0])
        get_conn_value, failing = backend.get_conn_value, ["until it heals"]

        def failing_get_conn_value(self: Any, *arguments: Any, **options: Any) -> Any:
            if failing:
                raise OSError("no route to http://vault/kept?token=sk-in-a-query")
            return get_conn_value(self, *arguments, **options)

        monkeypatch.setattr(backend, "get_conn_value", failing_get_conn_value)
        connect("kept", emulator.api_key)
        clock.after(3600, failing.clear)
        found = ends(*(BatchTrigger([each], "kept") for each in batches(3)))
        assert states(found) == {("over", "completed")}
        lines = [each for each in logged().splitlines() if "could not be read" in each]
        assert "connection 'kept' could not be read: EnvironmentVariablesBackend: OSError: no route" in lines[0]
        assert "sk-in-a-query" not in "".join(lines)

    def test_invalid_connection_values_are_not_shown(
        self, batches, connect, emulator, clock, monkeypatch, logged
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_GARBLED", '{"password": "sk-garbled", "port": ')
        clock.after(3600, lambda: connect("garbled", emulator.api_key))
        assert states(ends(BatchTrigger(batches(1), "garbled"))) == {("over", "completed")}
        lines = [each for each in logged().splitlines() if "could not be read" in each]
        assert "connection 'garbled' could not be read: EnvironmentVariablesBackend: JSONDecodeError" in lines[0]
        assert "sk-garbled" not in "".join(lines)

    def test_a_connection_is_read_through_the_loop(self, connection, batches, monkeypatch) -> None:
        """Up to Airflow 3.2.1 a thread reaches the supervisor only over the triggerer's event loop."""
        loops, get_conn = set(), SiliconFlowHook.get_conn

        async def request_to_airflow() -> None:
            loops.add(asyncio.get_running_loop())

        def asking_get_conn(self: SiliconFlowHook) -> Any:
            async_to_sync(request_to_airflow)()
            return get_conn(self)

        monkeypatch.setattr(SiliconFlowHook, "get_conn", asking_get_conn)

        async def run() -> None:
            await end_of(BatchTrigger(batches(1), connection))
            assert loops == {asyncio.get_running_loop()}

        asyncio.run(run())

    def test_an_unexpected_error_fails_only_its_trigger(self, connection, batches, monkeypatch) -> None:
        broken, *others = batches(5)
        get_batch = SiliconFlowClient.get_batch

        def fails_for_one(self: SiliconFlowClient, batch_id: str) -> Any:
            return get_batch(self, batch_id) if batch_id != broken else 1 / 0

        def fails(self: SiliconFlowClient, after: Any = None) -> Any:
            return 1 / 0

        monkeypatch.setattr(SiliconFlowClient, "get_batch", fails_for_one)
        monkeypatch.setattr(SiliconFlowClient, "batch_page", fails)

        async def run() -> list[Any]:
            waits = [end_of(BatchTrigger([each], connection)) for each in [broken, *others]]
            return await asyncio.gather(*waits, return_exceptions=True)

        first, *rest = asyncio.run(run())
        assert isinstance(first, ZeroDivisionError)
        assert states([end for each in rest for end in each]) == {("over", "completed")}

    def test_slow_responses_block_neither_loop_nor_connections(
        self, connection, batches, connect, emulator, monkeypatch
    ) -> None:
        slow, quick = batches(2)
        other = connect("other", emulator.api_key)
        answered, get_batch = threading.Event(), SiliconFlowClient.get_batch

        def slow_get_batch(self: SiliconFlowClient, batch_id: str) -> Any:
            assert batch_id != slow or answered.wait(10)
            return get_batch(self, batch_id)

        monkeypatch.setattr(SiliconFlowClient, "get_batch", slow_get_batch)

        async def run() -> list[WaitEnd]:
            waiting = asyncio.create_task(end_of(BatchTrigger([slow], connection)))
            found = await end_of(BatchTrigger([quick], other))
            assert not waiting.done()
            answered.set()
            return found + await waiting

        assert states(asyncio.run(run())) == {("over", "completed")}


class TestNoAnswer:
    """A server that never ends its answer, or asks to be tried again in minutes."""

    @pytest.fixture
    def hung(self, batches, monkeypatch) -> Iterator[str]:
        """A batch whose requests get no answer for longer than a watcher waits."""
        (batch_id,) = batches(1)
        is_over, get_batch = threading.Event(), SiliconFlowClient.get_batch

        def hanging_get_batch(self: SiliconFlowClient, asked: str) -> Any:
            if asked == batch_id:
                is_over.wait(0.4)
            return get_batch(self, asked)

        monkeypatch.setattr(SiliconFlowClient, "get_batch", hanging_get_batch)
        for module in (watcher, triggers):
            monkeypatch.setattr(module, "LONGEST_ANSWER_SECONDS", 0.2)
        yield batch_id
        is_over.set()

    @pytest.mark.parametrize(("moment", "state"), [("deadline", "timeout"), ("stop_at", "execution_timeout")])
    def test_a_wait_ends_without_one(self, connection, hung, clock, moment, state) -> None:
        (end,) = ends(BatchTrigger([hung], connection, **{moment: pendulum.from_timestamp(clock.now)}))
        assert (end.state, end.batch) == (state, None)

    def test_others_on_the_connection_go_on(self, connection, hung, batches, clock) -> None:
        (other,) = batches(1)
        late = BatchTrigger([hung], connection, pendulum.from_timestamp(clock.now + 300))
        found = ends(BatchTrigger([other], connection), late)
        assert [each.state for each in found] == ["over", "timeout"]
        assert "no response within 0.2 s" in str(found[1].error)

    def test_a_slow_connection_lookup_is_retried(self, connection, batches, clock, monkeypatch, logged) -> None:
        may_read, get_conn = threading.Event(), SiliconFlowHook.get_conn

        def slow_get_conn(self: SiliconFlowHook) -> Any:
            may_read.wait(20)
            return get_conn(self)

        monkeypatch.setattr(SiliconFlowHook, "get_conn", slow_get_conn)
        monkeypatch.setattr(watcher, "LONGEST_ANSWER_SECONDS", 0.2)
        clock.after(25, may_read.set)
        assert states(ends(BatchTrigger(batches(1), connection))) == {("over", "completed")}
        assert "no response within 0.2 s" in logged()


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
            return await asyncio.gather(*(late(number, each) for number, each in enumerate(ids)))

        found = [end for each in asyncio.run(run()) for end in each]
        assert states(found) == {("over", "completed")}
        assert [each.batch_id for each in found] == ids
