from __future__ import annotations

import io
from collections.abc import Callable
from importlib.metadata import version

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from tests.system.components import API_KEY, Components

pytestmark = pytest.mark.slow

HAS_ASSET_STATE_STORE = [*map(int, version("apache-airflow").split(".")[:2])] >= [3, 3]
DAG_FILE = """
import pendulum
from airflow.sdk import Asset, AssetWatcher, dag, task

from siliconflow_provider.triggers.events import BatchEventTrigger

TRIGGER = BatchEventTrigger(metadata={"team": "search"}, poll_interval=10)


@dag(schedule=[Asset("ended", watchers=[AssetWatcher(name="batches", trigger=TRIGGER)])])
def watching():
    @task
    def use() -> None: ...

    use()


watching()
"""


def test_each_end_is_one_event_over_a_restart(harmed_components: Components, sums: Callable[[int], bytes]) -> None:
    """The second batch ends while no triggerer runs: its event needs the asset state store of Airflow 3.3."""
    components = harmed_components
    components.renew_emulator("--queue-seconds", "0", "--run-seconds", "5", "--finalize-seconds", "0")
    client = SiliconFlowClient(API_KEY, components.emulator_url)
    file_id = client.upload_file(io.BytesIO(sums(3))).id

    def events() -> list[str]:
        found = components.api.call("GET", "/assets/events?limit=100")["asset_events"]
        return sorted(event["extra"]["payload"]["batch_id"] for event in found)

    def wait_for_lists() -> None:
        wanted = len(components.requests("GET", "/v1/batches")) + 2
        what = "the watcher has listed the batches twice"
        components.wait_until(lambda: len(components.requests("GET", "/v1/batches")) >= wanted, what)

    (components.dags_folder / "watching.py").write_text(DAG_FILE)
    components.wait_until(lambda: components.api.has_dag("watching"), "Airflow has read the DAG")
    components.api.call("PATCH", "/dags/watching", {"is_paused": False})
    wait_for_lists()
    client.create_batch(file_id, metadata={"team": "ads"})
    first = client.create_batch(file_id, metadata={"team": "search"}).id
    components.wait_until(lambda: events() == [first], "the first batch has its event")
    wait_for_lists()
    components.kill("triggerer")
    second = client.create_batch(file_id, metadata={"team": "search"}).id
    components.wait_until(lambda: client.get_batch(second).is_terminal, "the second batch is over")
    components.heal()
    wait_for_lists()
    assert events() == sorted([first, second] if HAS_ASSET_STATE_STORE else [first])
