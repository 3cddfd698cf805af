from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from tests.system.components import Components
from tests.system.dag_runs import DagRun
from tests.system.rest_api import AIRFLOW_3

# Airflow 2 has no asset watchers.
collect_ignore = [] if AIRFLOW_3 else ["test_asset_watcher.py"]
ROOT = Path(__file__).parent.parent.parent
# Airflow's UI has places for pages since 3.1.
collect_ignore = [] if AIRFLOW_V_3_1_PLUS else ["test_pages.py"]
# Not over at the trigger's first look: Airflow can fail a try whose trigger fires before its deferral is taken in.
QUICK = ("--queue-seconds", "0.5", "--run-seconds", "10", "--finalize-seconds", "0")
DAG_FILE = """
import pendulum
from airflow.providers.common.compat.sdk import dag

from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.files import UploadFileOperator


@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1, tz="UTC"), default_args={{"retries": 3}})
def {dag_id}():
    upload = UploadFileOperator(task_id="upload", file_path={path!r})
    CreateBatchOperator(task_id="create", input_file_id=upload.output, **{arguments!r})


{dag_id}()
"""
TWO_BATCHES = """
import pendulum
from airflow.providers.common.compat.sdk import dag

from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.files import UploadFileOperator


@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1, tz="UTC"), default_args={{"retries": 3}})
def two_batches():
    upload = UploadFileOperator(task_id="upload", file_path={path!r})
    for name in ("first", "second"):
        CreateBatchOperator(task_id=name, input_file_id=upload.output, poll_interval=1)


two_batches()
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests, and run them last: once started, the components take time from every test after."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("system")
    items.sort(key=lambda item: "system" in item.keywords)


@pytest.fixture(scope="session", autouse=True)
def stop_in_order() -> Iterator[None]:
    """A terminated pytest stops its components, as an interrupted one does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def components(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[Components]:
    """One running Airflow, with the example DAGs, for all tests that harm no component."""
    own = Components(tmp_path_factory.mktemp("airflow") / "home", migrated_database)
    (own.dags_folder / "example_dags").symlink_to(ROOT / "example_dags")
    with own:
        own.renew_emulator(*QUICK)
        yield own


@pytest.fixture
def harmed_components(components: Components) -> Iterator[Components]:
    """The same, for a test that kills or stalls components: they are healed after it."""
    yield components
    components.set_secrets_backend()
    components.heal()
    components.renew_emulator(*QUICK)


@pytest.fixture
def run_of_one_batch(
    harmed_components: Components, sums: Callable[[int], bytes], tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., DagRun]:
    """Triggers a run of a DAG of the test's own: `upload`, then `create` with the arguments that are given.

    Its batch runs for the seconds that come first, on an emulator that knows of no other.
    """

    def start(run_seconds: float, **arguments: Any) -> DagRun:
        harmed_components.renew_emulator("--queue-seconds", "0", "--run-seconds", str(run_seconds))
        requests_path, dag_id = tmp_path / "requests.jsonl", re.sub(r"\W", "_", request.node.name)
        requests_path.write_bytes(sums(12))
        dag_file = DAG_FILE.format(dag_id=dag_id, path=str(requests_path), arguments=arguments)
        (harmed_components.dags_folder / f"{dag_id}.py").write_text(dag_file)
        return harmed_components.trigger_dag_run(dag_id)

    return start


@pytest.fixture
def two_batches(components: Components, sums: Callable[[int], bytes], tmp_path: Path) -> Callable[[], DagRun]:
    """Triggers a run in which two tasks, `first` and `second`, wait for a batch each."""

    def start() -> DagRun:
        requests_path = tmp_path / "requests.jsonl"
        requests_path.write_bytes(sums(12))
        (components.dags_folder / "two_batches.py").write_text(TWO_BATCHES.format(path=str(requests_path)))
        return components.trigger_dag_run("two_batches")

    return start
