from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.jobs.waiting import from_event
from siliconflow_provider.triggers.batches import BatchTrigger


@pytest.fixture
def batch_ids(client: SiliconFlowClient, sums, tmp_path) -> list[str]:
    """Two batches of twelve requests; the second is a minute younger."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(sums(12))
    file_id = client.upload_file(path).id
    return [client.create_batch(file_id).id for _ in range(2)]


def events(trigger: BatchTrigger) -> list[Any]:
    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def test_it_is_rebuilt_from_what_it_serializes() -> None:
    deadline = pendulum.datetime(2026, 11, 24, 1)
    trigger = BatchTrigger(["batch_a", "batch_b"], "sf", deadline, 30.0, True)
    assert trigger.serialize() == (
        "siliconflow_provider.triggers.batches.BatchTrigger",
        {
            "batch_ids": ["batch_a", "batch_b"],
            "siliconflow_conn_id": "sf",
            "deadline": deadline,
            "poll_interval": 30.0,
            "cancel_on_kill": True,
        },
    )
    assert BatchTrigger(**trigger.serialize()[1]).serialize() == trigger.serialize()


def test_it_reports_once_when_all_batches_are_over(connection, batch_ids) -> None:
    (event,) = events(BatchTrigger(batch_ids, connection))
    ends = from_event(json.loads(json.dumps(event)))
    assert [(each.batch_id, each.state) for each in ends] == [(batch_ids[0], "over"), (batch_ids[1], "over")]
    assert [each.batch.request_counts.completed for each in ends if each.batch] == [12, 12]


def test_the_event_holds_no_key_and_no_reference_to_results(connection, batch_ids, emulator) -> None:
    text = json.dumps(events(BatchTrigger(batch_ids, connection)))
    assert emulator.api_key not in text
    assert emulator.storage_url not in text
    assert "file_id" not in text.replace("input_file_id", "")


def test_it_reports_a_timeout_at_its_deadline(connection, batch_ids, clock) -> None:
    deadline = pendulum.from_timestamp(clock.now + 60)
    (event,) = events(BatchTrigger(batch_ids[:1], connection, deadline))
    (end,) = from_event(event)
    assert (end.state, end.batch.status) == ("timeout", "in_progress")
    assert clock.now == deadline.timestamp()


def test_its_log_says_what_changed_and_nothing_twice(connection, batch_ids, logged) -> None:
    events(BatchTrigger(batch_ids[:1], connection, poll_interval=1))
    lines = [each for each in logged().splitlines() if f"batch {batch_ids[0]} is " in each]
    counts = [each.split(" is ")[1].split(" since ")[0].rpartition(",")[0] for each in lines]
    assert counts[0] == "in_queue"
    assert counts[-1] == "completed, 12 of 12 requests done"
    assert len(counts) == len(set(counts)) == 15


def test_the_event_loop_is_free_while_it_asks(connection, batch_ids, monkeypatch) -> None:
    """A slow answer holds a thread, not the loop: others go on, here the one that lets the answer come."""
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
    from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

    threads, get_conn = set(), SiliconFlowHook.get_conn

    def noting_get_conn(self: SiliconFlowHook) -> Any:
        threads.add(threading.current_thread())
        return get_conn(self)

    monkeypatch.setattr(SiliconFlowHook, "get_conn", noting_get_conn)
    events(BatchTrigger(batch_ids, connection))
    assert threads
    assert threading.main_thread() not in threads
