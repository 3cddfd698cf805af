from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.triggers.base import BaseTrigger
from asgiref.sync import async_to_sync
from requests.exceptions import ConnectTimeout

from siliconflow_provider.api import clock as provider_clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import ServerError
from siliconflow_provider.api.session import Session
from siliconflow_provider.batches.cancellation import cancel_unless_over
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.triggers import events as events_module
from siliconflow_provider.triggers import kill
from siliconflow_provider.triggers.batches import AIRFLOW_CALLS_ON_KILL, BatchTrigger
from siliconflow_provider.waiting.events import from_event


@pytest.fixture
def batch_ids(client: SiliconFlowClient, sums, tmp_path) -> list[str]:
    """Return the ids of two batches of twelve requests; the second is one minute younger."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(sums(12))
    file_id = client.upload_file(path).id
    return [client.create_batch(file_id).id for _ in range(2)]


def events(trigger: BatchTrigger) -> list[Any]:
    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def test_it_can_be_rebuilt_from_its_serialization() -> None:
    deadline, stop_at = pendulum.datetime(2026, 11, 24, 1), pendulum.datetime(2026, 11, 23, 1)
    trigger = BatchTrigger(["batch_a", "batch_b"], "sf", deadline, 30.0, True, stop_at, 1)
    assert trigger.serialize() == (
        "siliconflow_provider.triggers.batches.BatchTrigger",
        {
            "batch_ids": ["batch_a", "batch_b"],
            "siliconflow_conn_id": "sf",
            "deadline": deadline,
            "poll_interval": 30.0,
            "cancel_on_kill": True,
            "stop_at": stop_at,
            "most_running": 1,
        },
    )
    assert BatchTrigger(**trigger.serialize()[1]).serialize() == trigger.serialize()


def test_it_fires_once_when_all_batches_ended(connection, batch_ids) -> None:
    (event,) = events(BatchTrigger(batch_ids, connection))
    ends = from_event(json.loads(json.dumps(event)))
    assert [(end.batch_id, end.state) for end in ends] == [(batch_ids[0], "over"), (batch_ids[1], "over")]
    assert [end.batch.request_counts.completed for end in ends if end.batch] == [12, 12]


def test_the_event_contains_no_secrets(connection, batch_ids, emulator) -> None:
    text = json.dumps(events(BatchTrigger(batch_ids, connection)))
    assert emulator.api_key not in text
    assert emulator.storage_url not in text
    assert "file_id" not in text.replace("input_file_id", "")


def test_it_reports_a_timeout_at_its_deadline(connection, batch_ids, clock) -> None:
    deadline = pendulum.from_timestamp(clock.now + 60)
    (event,) = events(BatchTrigger(batch_ids[:1], connection, deadline))
    (end,) = from_event(event)
    assert (end.state, end.batch.status) == ("timeout", "in_progress")
    assert clock.now == pytest.approx(deadline.timestamp(), abs=0.001)


def test_statuses_and_quarters_are_logged_once(connection, batch_ids, logged) -> None:
    events(BatchTrigger(batch_ids[:1], connection, poll_interval=1))
    lines = [line for line in logged().splitlines() if f"batch {batch_ids[0]} is " in line]
    assert [line.split(" is ")[1].split(" requests")[0].split(", 0s")[0] for line in lines] == [
        "in_queue",
        "in_progress, 0 of 12",
        "in_progress, 3 of 12",
        "in_progress, 6 of 12",
        "in_progress, 9 of 12",
        "finalizing, 12 of 12",
        "completed, 12 of 12",
    ]


def test_the_event_loop_is_free_while_it_asks(connection, batch_ids, monkeypatch) -> None:
    """A slow response blocks a thread, not the loop: other tasks continue, here the one that ends the delay."""
    answered, get_batch = threading.Event(), SiliconFlowClient.get_batch

    def slow_get_batch(self: SiliconFlowClient, batch_id: str) -> Any:
        assert answered.wait(10)
        return get_batch(self, batch_id)

    monkeypatch.setattr(SiliconFlowClient, "get_batch", slow_get_batch)

    async def run_beside() -> Any:
        async def let_it_answer() -> None:
            answered.set()

        async def first() -> Any:
            return [event async for event in BatchTrigger(batch_ids, connection).run()]

        waiting = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        await let_it_answer()
        return await waiting

    assert len(asyncio.run(run_beside())) == 1


def test_the_connection_is_read_off_the_event_loop(connection, batch_ids, monkeypatch) -> None:
    threads, get_conn = set(), SiliconFlowHook.get_conn

    def noting_get_conn(self: SiliconFlowHook) -> Any:
        threads.add(threading.current_thread())
        return get_conn(self)

    monkeypatch.setattr(SiliconFlowHook, "get_conn", noting_get_conn)
    events(BatchTrigger(batch_ids, connection))
    assert threads
    assert threading.main_thread() not in threads


def test_closing_after_the_event_cancels_nothing(connection, batch_ids, logged) -> None:
    """Before Airflow 3.3, `dag.test()` drops the trigger there, and the end of the loop cancels it."""

    async def first_event() -> Any:
        return await anext(BatchTrigger(batch_ids, connection).run())

    assert asyncio.run(first_event()).payload["waits"]
    assert "stopped" not in logged()


class TestKill:
    """Airflow stops a trigger by cancelling its task, for any reason; since 3.3 it also calls `on_kill`."""

    @pytest.fixture
    def stop(
        self, connection: str, batch_ids: list[str], clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., None]:
        """Stop a waiting trigger as Airflow does; `ended` is Airflow's answer about the task."""

        def stop_trigger(*, ended: Any, cancel_on_kill: bool, seconds: float = 0) -> None:
            def has_task_ended(task_instance: Any) -> Any:
                assert task_instance.task_id == "create"
                clock.advance(seconds)
                if isinstance(ended, Exception):
                    raise ended
                return ended

            monkeypatch.setattr("siliconflow_provider.triggers.kill.has_task_ended", has_task_ended)
            asyncio.run(self.start_and_stop(BatchTrigger(batch_ids, connection, cancel_on_kill=cancel_on_kill)))

        return stop_trigger

    async def start_and_stop(self, trigger: BatchTrigger) -> None:
        trigger.task_instance = SimpleNamespace(task_id="create")
        is_waiting, forever = asyncio.Event(), asyncio.Event()

        async def sleep_async(seconds: float) -> None:
            is_waiting.set()
            await forever.wait()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(provider_clock, "sleep_async", sleep_async)
            waiting = asyncio.create_task(anext(trigger.run()))
            await is_waiting.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        if AIRFLOW_CALLS_ON_KILL:
            await trigger.on_kill()

    def test_batches_of_a_marked_task_are_cancelled(self, stop, client, logged) -> None:
        stop(ended=True, cancel_on_kill=True)
        assert {batch.status for batch in client.list_batches()} == {"cancelling"}
        assert "are cancelling; answered requests are billed" in logged()

    def test_by_default_running_batches_are_only_logged(self, stop, client, batch_ids, logged) -> None:
        stop(ended=True, cancel_on_kill=False)
        assert {batch.status for batch in client.list_batches()} == {"in_queue"}
        lines = logged()
        assert (
            f"task was killed: Batches {', '.join(batch_ids)} are still running; answered requests are billed" in lines
        )

    def test_ended_batches_are_not_called_running(self, stop, logged) -> None:
        """Another triggerer has waited until their end, while this one was stalled."""
        stop(ended=True, cancel_on_kill=False, seconds=300)
        lines = logged()
        assert "are completed; answered requests are billed" in lines
        assert "still running" not in lines

    def test_a_trigger_that_only_moved_cancels_nothing(self, stop, client, logged) -> None:
        """Another triggerer has taken it over because this one stalled, or the next attempt has its batch."""
        stop(ended=False, cancel_on_kill=True)
        assert {batch.status for batch in client.list_batches()} == {"in_queue"}
        assert "the task has not ended: its batches were not cancelled" in logged()

    def test_when_airflow_does_not_answer_it_cancels_nothing(self, stop, client, logged) -> None:
        stop(ended=RuntimeError("no api-server"), cancel_on_kill=True)
        assert {batch.status for batch in client.list_batches()} == {"in_queue"}
        lines = logged()
        assert "no batch was cancelled (no api-server)" in lines
        assert "may still be running; answered requests are billed" in lines

    def test_one_cancel_that_fails_leaves_no_other_running(self, stop, client, batch_ids, monkeypatch, logged) -> None:
        """The log names the outcome of each batch."""
        cancel = SiliconFlowClient.cancel_batch

        def failing_cancel(self: SiliconFlowClient, batch_id: str) -> Any:
            if batch_id == batch_ids[0]:
                raise ServerError("POST was refused: bad gateway")
            return cancel(self, batch_id)

        monkeypatch.setattr(SiliconFlowClient, "cancel_batch", failing_cancel)
        stop(ended=True, cancel_on_kill=True)
        assert [client.get_batch(item).status for item in batch_ids] == ["in_queue", "cancelling"]
        lines = logged()
        assert (
            f"task was killed: could not cancel batch {batch_ids[0]}: POST was refused: bad gateway.\nRunning batches"
            in lines
        )
        assert f"task was killed: batch {batch_ids[1]} is cancelling; answered requests are billed" in lines

    def test_an_unreachable_service_is_only_logged(self, stop, emulator, monkeypatch, logged) -> None:
        get_quick_conn = SiliconFlowHook.get_quick_conn
        monkeypatch.setattr(
            SiliconFlowHook, "get_quick_conn", lambda *arguments: (get_quick_conn(*arguments), emulator.stop())[0]
        )
        stop(ended=True, cancel_on_kill=True)
        assert "task was killed: could not cancel batches batch_" in logged()

    def test_late_responses_are_logged(self, stop, batch_ids, client, monkeypatch, logged) -> None:
        """Airflow gives a trigger 30 s, and no batch is cancelled later without a log line."""
        monkeypatch.setattr(kill, "KILL_SECONDS", 0.5)
        may_answer, cancel = threading.Event(), cancel_unless_over

        def slow_cancel(client: SiliconFlowClient, batch_id: str) -> Any:
            if batch_id == batch_ids[0]:
                may_answer.wait(10)
            return cancel(client, batch_id)

        monkeypatch.setattr(kill, "cancel_unless_over", slow_cancel)
        stop(ended=True, cancel_on_kill=True)
        may_answer.set()
        lines = logged()
        assert f"could not cancel batch {batch_ids[0]}: no response within 0.5 s; it may still be cancelled." in lines
        assert f"task was killed: batch {batch_ids[1]} is cancelling" in lines

    def test_an_unreachable_service_is_requested_once(self, connection, batch_ids, monkeypatch) -> None:
        """There are no retries and no long timeouts, since other requests wait."""
        monkeypatch.setattr(kill, "has_task_ended", lambda task_instance: True)
        timeouts = []

        def no_answer(self: Session, *each: Any, timeout: Any, **other: Any) -> Any:
            timeouts.append(timeout)
            raise ConnectTimeout

        monkeypatch.setattr(Session, "request", no_answer)
        trigger = BatchTrigger(batch_ids, connection, cancel_on_kill=True)
        trigger.task_instance = None
        asyncio.run(trigger.on_kill())
        assert timeouts == [(kill.ANSWER_SECONDS, kill.ANSWER_SECONDS)] * 2

    def test_kills_do_not_use_the_loops_pool(self, connection, batch_ids, monkeypatch) -> None:
        threads = set()

        def has_task_ended(task_instance: Any) -> bool:
            threads.add(threading.current_thread().name.rpartition("_")[0])
            return False

        monkeypatch.setattr(kill, "has_task_ended", has_task_ended)
        trigger = BatchTrigger(batch_ids, connection)
        trigger.task_instance = None
        asyncio.run(trigger.on_kill())
        assert threads == {"kill-siliconflow"}

    def test_airflow_requests_use_the_event_loop(self, connection, batch_ids, client, monkeypatch) -> None:
        """Up to Airflow 3.2.1 a thread can reach the supervisor only over the triggerer's event loop."""
        loops, get_quick_conn = [], SiliconFlowHook.get_quick_conn

        async def request_to_airflow() -> None:
            loops.append(asyncio.get_running_loop())

        def has_task_ended(task_instance: Any) -> bool:
            async_to_sync(request_to_airflow)()
            return True

        def asking_get_quick_conn(self: SiliconFlowHook, timeout: float) -> Any:
            async_to_sync(request_to_airflow)()
            return get_quick_conn(self, timeout)

        monkeypatch.setattr("siliconflow_provider.triggers.kill.has_task_ended", has_task_ended)
        trigger = BatchTrigger(batch_ids, connection, cancel_on_kill=True)

        monkeypatch.setattr(SiliconFlowHook, "get_quick_conn", asking_get_quick_conn)

        async def run() -> None:
            await self.start_and_stop(trigger)
            assert set(loops) == {asyncio.get_running_loop()}

        asyncio.run(run())
        assert len(loops) == 2
        assert {batch.status for batch in client.list_batches()} == {"cancelling"}

    def test_being_stopped_again_interrupts_no_kill(self, connection, batch_ids, client, monkeypatch) -> None:
        """Airflow cancels a trigger every second until it has ended."""
        is_asked, may_answer = threading.Event(), threading.Event()

        def has_task_ended(task_instance: Any) -> bool:
            is_asked.set()
            return may_answer.wait(10)

        monkeypatch.setattr("siliconflow_provider.triggers.kill.has_task_ended", has_task_ended)
        trigger = BatchTrigger(batch_ids, connection, cancel_on_kill=True)
        trigger.task_instance = None

        async def run() -> None:
            killing = asyncio.create_task(trigger.on_kill())
            while not is_asked.is_set():
                await asyncio.sleep(0.001)
            for _ in range(3):
                killing.cancel()
                await asyncio.sleep(0)
            may_answer.set()
            await killing

        asyncio.run(run())
        assert {batch.status for batch in client.list_batches()} == {"cancelling"}


def test_the_event_trigger_names_its_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 2 can import it."""
    monkeypatch.setattr(events_module, "BaseEventTrigger", BaseTrigger)
    with pytest.raises(TypeError, match=r"needs Airflow 3\.0 or later.*BatchSensor"):
        events_module.BatchEventTrigger()
