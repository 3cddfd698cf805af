"""Failing polls, connections and services, seen by triggers that share a poll."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pendulum
import pytest
from asgiref.sync import async_to_sync

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.server import Emulator
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.triggers import batches as triggers
from siliconflow_provider.triggers import connection as connection_module
from siliconflow_provider.triggers import requests as requests_module
from siliconflow_provider.triggers.batches import BatchTrigger
from siliconflow_provider.triggers.connection import secrets_backends
from siliconflow_provider.waiting.batch_wait import WaitEnd
from tests.trigger_runs import LIST, SINGLE, end_of, ends, states


@pytest.fixture
def connect(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Create or change a connection to the emulator; return its id."""

    def set_connection(conn_id: str, api_key: str, **extra: Any) -> str:
        value = {"conn_type": "siliconflow", "host": emulator.base_url, "password": api_key, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    return set_connection


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read connections only from the environment: on Airflow 2 a missing database is a failing backend."""
    monkeypatch.setattr(connection_module, "secrets_backends", lambda: secrets_backends()[:1])


class TestFailing:
    def test_an_outage_costs_few_requests_and_no_wait(self, connect, batches, emulator, clock, requests) -> None:
        connection = connect("quick_to_fail", emulator.api_key, max_retries=0)
        for endpoint in (LIST, SINGLE):
            emulator.control.fault(endpoint, status=503, every=1)
        during: list[int] = []
        clock.after(600, lambda: during.append(sum(requests().values())))
        clock.after(600, emulator.control.reset)
        found = ends(*(BatchTrigger([batch_id], connection) for batch_id in batches(60)))
        assert states(found) == {("over", "completed")}
        # Pauses grow, and after four failures in a row the others are not polled; alone, each would poll about 7 times.
        assert during[0] <= 60

    def test_an_unknown_batch_does_not_delay_others(self, connection, batches, requests) -> None:
        found = ends(*(BatchTrigger([batch_id], connection) for batch_id in ["batch_unknown", *batches(4)]))
        assert (found[0].state, states(found[1:])) == ("error", {("over", "completed")})

    def test_a_rejected_key_affects_only_its_connection(self, connection, batches, connect) -> None:
        refused = connect("refused", "sk-wrong")
        ids = batches(8)
        triggers = [BatchTrigger([batch_id], conn_id) for batch_id in ids for conn_id in (connection, refused)]
        found = ends(*triggers)
        assert states(found[::2]) == {("over", "completed")}
        assert {(end.state, "Invalid token" in str(end.error)) for end in found[1::2]} == {("error", True)}

    def test_a_rotated_key_is_picked_up(self, batches, connect, emulator, clock, monkeypatch) -> None:
        rotated = connect("rotated", "sk-old")
        clock.after(300, lambda: connect("rotated", emulator.api_key))
        reads, get_conn = [], SiliconFlowHook.get_conn

        def noting_get_conn(self: SiliconFlowHook) -> Any:
            reads.append(clock.now)
            return get_conn(self)

        monkeypatch.setattr(SiliconFlowHook, "get_conn", noting_get_conn)
        found = ends(*(BatchTrigger([batch_id], rotated, poll_interval=5) for batch_id in batches(5)))
        assert states(found) == {("over", "completed")}
        assert {item.error for item in found} == {None}
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
        found = ends(*(BatchTrigger([batch_id], "late") for batch_id in batches(3)))
        assert f"failed, will keep trying: {reason}" in logged()
        if changed_after is not None:
            assert states(found) == {("over", "completed")}
        else:
            assert {(end.state, reason in str(end.error)) for end in found} == {("error", True)}
            assert 3600 <= clock.now - start <= 3900

    def test_a_secrets_backend_that_fails_ends_no_wait(
        self, batches, connect, emulator, clock, monkeypatch, logged
    ) -> None:
        """Airflow skips it, and reports that the connection does not exist."""
        backend = type(secrets_backends()[0])
        get_conn_value, failing = backend.get_conn_value, ["until it heals"]

        def failing_get_conn_value(self: Any, *arguments: Any, **options: Any) -> Any:
            if failing:
                raise OSError("no route to http://vault/kept?token=sk-in-a-query")
            return get_conn_value(self, *arguments, **options)

        monkeypatch.setattr(backend, "get_conn_value", failing_get_conn_value)
        connect("kept", emulator.api_key)
        clock.after(3600, failing.clear)
        found = ends(*(BatchTrigger([batch_id], "kept") for batch_id in batches(3)))
        assert states(found) == {("over", "completed")}
        lines = [line for line in logged().splitlines() if "could not be read" in line]
        assert "connection 'kept' could not be read: EnvironmentVariablesBackend: OSError: no route" in lines[0]
        assert "sk-in-a-query" not in "".join(lines)

    def test_invalid_connection_values_are_not_shown(
        self, batches, connect, emulator, clock, monkeypatch, logged
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_GARBLED", '{"password": "sk-garbled", "port": ')
        clock.after(3600, lambda: connect("garbled", emulator.api_key))
        assert states(ends(BatchTrigger(batches(1), "garbled"))) == {("over", "completed")}
        lines = [line for line in logged().splitlines() if "could not be read" in line]
        assert "connection 'garbled' could not be read: EnvironmentVariablesBackend: JSONDecodeError" in lines[0]
        assert "sk-garbled" not in "".join(lines)

    def test_a_connection_is_read_through_the_loop(self, connection, batches, monkeypatch) -> None:
        """Up to Airflow 3.2.1 a thread can reach the supervisor only over the triggerer's event loop."""
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
            waits = [end_of(BatchTrigger([value], connection)) for value in [broken, *others]]
            return await asyncio.gather(*waits, return_exceptions=True)

        first, *rest = asyncio.run(run())
        assert isinstance(first, ZeroDivisionError)
        assert states([end for item in rest for end in item]) == {("over", "completed")}

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
    """A server that never ends its response, or sends a Retry-After of minutes."""

    @pytest.fixture
    def hung(self, batches, monkeypatch) -> Iterator[str]:
        """Return the id of a batch whose requests get no response for longer than a watcher waits."""
        (batch_id,) = batches(1)
        is_over, get_batch = threading.Event(), SiliconFlowClient.get_batch

        def hanging_get_batch(self: SiliconFlowClient, asked: str) -> Any:
            if asked == batch_id:
                is_over.wait(0.4)
            return get_batch(self, asked)

        monkeypatch.setattr(SiliconFlowClient, "get_batch", hanging_get_batch)
        for module in (requests_module, triggers):
            monkeypatch.setattr(module, "LONGEST_ANSWER_SECONDS", 0.2)
        yield batch_id
        is_over.set()

    @pytest.mark.parametrize(("moment", "state"), [("deadline", "timeout"), ("stop_at", "execution_timeout")])
    def test_a_wait_ends_without_one(self, connection, hung, clock, moment, state) -> None:
        (end,) = ends(BatchTrigger([hung], connection, **{moment: pendulum.from_timestamp(clock.now)}))
        assert (end.state, end.batch) == (state, None)

    def test_other_waits_of_the_connection_continue(self, connection, hung, batches, clock) -> None:
        (other,) = batches(1)
        late = BatchTrigger([hung], connection, pendulum.from_timestamp(clock.now + 300))
        found = ends(BatchTrigger([other], connection), late)
        assert [end.state for end in found] == ["over", "timeout"]
        assert "no response within 0.2 s" in str(found[1].error)

    def test_a_slow_connection_lookup_is_retried(self, connection, batches, clock, monkeypatch, logged) -> None:
        may_read, get_conn = threading.Event(), SiliconFlowHook.get_conn

        def slow_get_conn(self: SiliconFlowHook) -> Any:
            may_read.wait(20)
            return get_conn(self)

        monkeypatch.setattr(SiliconFlowHook, "get_conn", slow_get_conn)
        monkeypatch.setattr(requests_module, "LONGEST_ANSWER_SECONDS", 0.2)
        clock.after(25, may_read.set)
        assert states(ends(BatchTrigger(batches(1), connection))) == {("over", "completed")}
        assert "no response within 0.2 s" in logged()
