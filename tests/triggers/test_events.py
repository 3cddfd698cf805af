"""An event trigger fires once for each batch that ends."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.triggers import events
from siliconflow_provider.triggers.batches import BatchTrigger
from siliconflow_provider.triggers.events import BatchEventTrigger
from tests.trigger_runs import LIST, SINGLE

OURS = {"team": "search"}
Create = Callable[..., str]
Events = Callable[..., list[dict[str, Any]]]
Logged = Callable[[], str]


class Store:
    """What a trigger uses of Airflow's asset state store, whose values are JSON."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def aget(self, key: str) -> Any:
        return json.loads(self.values.get(key, "null"))

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)


@pytest.fixture
def create(client: SiliconFlowClient, sums: Callable[[int], bytes]) -> Create:
    """Create a batch of three requests with these metadata; it ends after 115 s."""
    file_id = client.upload_file(io.BytesIO(sums(3))).id
    return lambda **metadata: client.create_batch(file_id, metadata=metadata).id


@pytest.fixture
def events_of(connection: str, clock: Any) -> Events:
    """Run triggers side by side for so many seconds, and return the payloads of their events."""

    async def collect(trigger: Any, found: list[dict[str, Any]]) -> None:
        async for event in trigger.run():
            found.append(json.loads(json.dumps(event.payload)))

    async def run_all(seconds: float, triggers: tuple[Any, ...]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        running = asyncio.gather(*(collect(trigger, found) for trigger in triggers))
        clock.after(seconds, running.cancel)
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(running, 30)
        return found

    return lambda seconds, *triggers: asyncio.run(run_all(seconds, triggers))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Logged:
    """Return the log: Airflow 3 writes it to the standard output."""
    return lambda: "".join(capsys.readouterr()) + caplog.text


def trigger_of(store: Store | None = None, **arguments: Any) -> BatchEventTrigger:
    """Return a trigger as a triggerer makes it."""
    _, kwargs = BatchEventTrigger(**arguments).serialize()
    trigger = BatchEventTrigger(**json.loads(json.dumps(kwargs)))
    trigger.asset_state_store = store
    return trigger


def test_arguments_have_a_form_that_airflow_keeps() -> None:
    """Airflow 3.2 gives a mapping back in another form."""
    _, arguments = BatchEventTrigger(metadata=OURS).serialize()
    assert {type(value) for value in arguments.values()} == {list, str, float}


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [event["batch_id"] for event in found]


def test_each_matching_batch_fires_once(create: Create, events_of: Events, clock: Any) -> None:
    first, _ = create(team="search", month="11"), create(team="ads")
    later: list[str] = []
    clock.after(200, lambda: later.append(create(team="search")))
    found = events_of(1_000, trigger_of(metadata=OURS))
    assert ids(found) == [first, *later]
    assert found[0] == {
        "batch_id": first,
        "status": "completed",
        "siliconflow_conn_id": "siliconflow_default",
        "request_counts": {"total": 3, "completed": 3, "failed": 0},
        "created_at": "2027-01-15T08:00:00Z",
        "ended_at": "2027-01-15T08:01:55Z",
    }


def test_only_wanted_statuses_fire(create: Create, events_of: Events, client: SiliconFlowClient) -> None:
    completed, cancelled = create(), create()
    client.cancel_batch(cancelled)
    assert ids(events_of(600, trigger_of(statuses=["cancelled", "failed"]))) == [cancelled]
    assert completed != cancelled


@pytest.mark.parametrize(("lookback", "count"), [(0.0, 0), (600.0, 1)])
def test_a_new_trigger_looks_back_if_asked(
    create: Create, events_of: Events, clock: Any, lookback: float, count: int
) -> None:
    create()
    clock.advance(400)
    assert len(events_of(300, trigger_of(lookback=lookback))) == count


def test_a_restart_misses_and_repeats_nothing(create: Create, events_of: Events, clock: Any) -> None:
    store = Store()
    first, second = create(), ""
    assert ids(events_of(300, trigger_of(store))) == [first]
    second = create()
    # Nobody watches while it ends.
    clock.advance(7_200)
    assert ids(events_of(300, trigger_of(store))) == [second]
    assert events_of(300, trigger_of(store)) == []


def test_triggers_on_one_asset_keep_own_states(create: Create, events_of: Events) -> None:
    store = Store()
    batch_id = create(team="search")
    assert ids(events_of(300, trigger_of(store), trigger_of(store, metadata=OURS))) == [batch_id, batch_id]
    assert len(store.values) == 2


def test_a_state_that_cannot_be_kept_is_a_warning(create: Create, events_of: Events, logged: Logged) -> None:
    class TwoAssets(Store):
        async def aget(self, key: str) -> Any:
            raise ValueError("Task has 2 concrete inlets and outlets")

    batch_id = create()
    assert ids(events_of(300, trigger_of(TwoAssets()))) == [batch_id]
    assert "its state is not kept" in logged()


class FailingStore(Store):
    """A store whose next calls fail."""

    failures = 0

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise ConnectionError("supervisor is busy: https://h/x?Signature=s3cret")

    async def aget(self, key: str) -> Any:
        self.failures -= 1
        if self.failures >= 0:
            await self.fail()
        return await super().aget(key)

    async def aset(self, key: str, value: Any) -> None:
        self.failures -= 1
        if self.failures >= 0:
            await self.fail()
        await super().aset(key, value)


class HangingStore(FailingStore):
    """A store that does not answer the next calls."""

    async def fail(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("store", [FailingStore(), HangingStore()], ids=["fails", "hangs"])
def test_no_event_is_lost_without_the_store(
    create: Create, events_of: Events, clock: Any, monkeypatch: pytest.MonkeyPatch, store: FailingStore, logged: Logged
) -> None:
    monkeypatch.setattr(events, "STORE_TIMEOUT", 0.01)
    events_of(100, trigger_of(store))
    batch_id = create()
    clock.advance(7_200)
    store.failures = 10
    assert events_of(300, trigger_of(store)) == []
    said = logged()
    assert "reading the state failed" in said
    assert "s3cret" not in said
    store.failures = 2
    assert ids(events_of(300, trigger_of(store))) == [batch_id]


@pytest.mark.parametrize("store", [FailingStore(), HangingStore()], ids=["fails", "hangs"])
def test_a_state_is_stored_again_and_again(
    create: Create, events_of: Events, clock: Any, monkeypatch: pytest.MonkeyPatch, store: FailingStore, logged: Logged
) -> None:
    monkeypatch.setattr(events, "STORE_TIMEOUT", 0.01)
    batch_id = create()
    clock.after(110, lambda: setattr(store, "failures", 2))
    # A store that hangs takes real time, in which many lists are read.
    assert ids(events_of(6_000, trigger_of(store))) == [batch_id]
    said = logged()
    assert "storing the state failed" in said
    assert "s3cret" not in said
    assert f"keep trying: {'TimeoutError' if isinstance(store, HangingStore) else 'supervisor is busy'}" in said
    assert batch_id in "".join(store.values.values())


class TestLists:
    @pytest.fixture
    def forms(self) -> Forms:
        return Forms(list_without_metadata=True)

    def test_metadata_is_asked_for_once(self, create: Create, events_of: Events, requests: Any) -> None:
        found, _ = create(team="search"), create(team="ads")
        assert ids(events_of(1_000, trigger_of(metadata=OURS))) == [found]
        assert requests()[SINGLE] == 2


def test_triggers_and_waits_share_one_list(create: Create, events_of: Events, requests: Any, connection: str) -> None:
    awaited = [create(team="search") for _ in range(3)]
    searches = [trigger_of(metadata=OURS), trigger_of(), trigger_of(statuses=["failed"])]
    found = events_of(600, *searches, BatchTrigger(awaited, connection))
    assert sorted(ids([event for event in found if "batch_id" in event])) == sorted(awaited * 2)
    assert [len(event["waits"]) for event in found if "waits" in event] == [3]
    # Every minute for the searches, and every 9 to 10 s for 115 s for the waits.
    assert requests() == {LIST: pytest.approx(22, abs=4), SINGLE: 0}


def test_outages_delay_events_only(create: Create, events_of: Events, control: Control) -> None:
    batch_id = create()
    control.fault(LIST, status=503, times=30)
    assert ids(events_of(4_000, trigger_of())) == [batch_id]


def test_the_example_writes_results_of_ended_batches(
    create: Create, events_of: Events, load_dag_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{tmp_path}")
    module = load_dag_file("example_dags/when_a_batch_ends.py")
    (watcher,) = module.ENDED.watchers
    create(team="search")
    found = ids(events_of(300, watcher.trigger))
    assert str(module.when_a_batch_ends().test(run_conf={"batch_ids": found}).state).endswith("success")
    (results,) = (tmp_path / "when_a_batch_ends").rglob("results.jsonl")
    assert len(results.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"statuses": ["done"]}, "statuses"), ({"statuses": []}, "statuses"), ({"statuses": "failed"}, "statuses"),
     ({"metadata": {"n": 1}}, "metadata"), ({"metadata": ["abc"]}, "metadata"),
     ({"poll_interval": "60"}, "poll_interval"), ({"poll_interval": 1}, "poll_interval"),
     ({"lookback": -1}, "lookback")],
)  # fmt: skip
def test_invalid_arguments_are_named(arguments: dict[str, Any], name: str) -> None:
    """Any error but a TypeError would end the triggerer."""
    with pytest.raises(TypeError, match=f"^{name} is "):
        BatchEventTrigger(**arguments)
