from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4, uuid5

# What is set on this machine is not for the tests, nor for what they start: they speak to this machine only.
for _name in list(os.environ):
    if _name.startswith(("AIRFLOW_", "AWS_")) or _name.lower().endswith(("_proxy", "_ca_bundle")):
        del os.environ[_name]

# Airflow reads its home when it is first imported, so it is set before any test module is.
_home = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ["AIRFLOW_HOME"] = _home.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY"] = "1"  # a DAG that fails does so within seconds
DAGS_FOLDER = Path(_home.name) / "dags"
DAGS_FOLDER.mkdir()
(DAGS_FOLDER / "example_dags").symlink_to(Path(__file__).parent.parent / "example_dags")

import pendulum  # noqa: E402
import pytest  # noqa: E402
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred  # noqa: E402
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS  # noqa: E402
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from siliconflow_provider import jsonl as jsonl_module  # noqa: E402
from siliconflow_provider.api import clock as provider_clock  # noqa: E402
from siliconflow_provider.api.client import SiliconFlowClient  # noqa: E402
from siliconflow_provider.api.models import Batch  # noqa: E402
from siliconflow_provider.emulator.control import Control  # noqa: E402
from siliconflow_provider.emulator.forms import Forms  # noqa: E402
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions  # noqa: E402
from siliconflow_provider.inputs import source_files  # noqa: E402
from siliconflow_provider.inputs.parts import PartWriter  # noqa: E402
from siliconflow_provider.outputs import result_files  # noqa: E402
from siliconflow_provider.storage.object_storage import storage_path  # noqa: E402
from siliconflow_provider.storage.workspace import Workspace  # noqa: E402
from tests.listing_service import CREATED, ListingService  # noqa: E402

DAY = 24 * 3600
# The pages need the API server of Airflow 3.
collect_ignore = [] if AIRFLOW_V_3_0_PLUS else ["plugins"]

# The examples are the same in every run; HYPOTHESIS_PROFILE=thorough looks for new ones, for minutes.
_slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much]
settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, max_examples=120, suppress_health_check=_slow
)
settings.register_profile("thorough", deadline=None, max_examples=3_000, suppress_health_check=_slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_report_header() -> str:
    return f"clock: {pendulum.now():YYYY-MM-DD HH:mm z}, moved by {os.environ.get('MOVED_CLOCK_DAYS', '0')} days"


class HeldClock:
    """Time that passes only when a test, or somebody who sleeps, says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25
        self.alarms: list[tuple[float, Callable[[], Any]]] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for alarm in [each for each in self.alarms if each[0] <= self.now]:
            self.alarms.remove(alarm)
            alarm[1]()

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        """Have something happen once so many seconds have passed."""
        self.alarms.append((self.now + seconds, action))


def request_line(custom_id: str, prompt: Any, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"custom_id": custom_id, "body": {"model": "deepseek-ai/DeepSeek-V3", "messages": messages} | body}


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def forms() -> Forms:
    return Forms()


@pytest.fixture
def options(tmp_path: Path, forms: Forms) -> EmulatorOptions:
    """Phases of round lengths: queue 10 s, run 100 s, finalize 5 s, cancel 20 s."""
    return EmulatorOptions(
        data_dir=tmp_path / "data",
        queue_seconds=10,
        run_seconds=100,
        finalize_seconds=5,
        cancel_seconds=20,
        url_seconds=60,
        forms=forms,
        control=True,
    )


@pytest.fixture
def control(emulator: Emulator) -> Control:
    return emulator.control


@pytest.fixture
def emulator(options: EmulatorOptions, clock: HeldClock) -> Iterator[Emulator]:
    with Emulator(options, clock=clock) as running:
        yield running


@pytest.fixture
def restarted(emulator: Emulator, options: EmulatorOptions, clock: HeldClock) -> Iterator[Emulator]:
    """The same emulator as it comes back after an outage, once it is started: same port, same data."""
    port = int(emulator.base_url.rpartition(":")[2].removesuffix("/v1"))
    back = Emulator(replace(options, port=port, storage_port=0), clock=clock)
    yield back
    back.stop()


def hold_time(clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the provider live by a held clock: who sleeps or waits makes the time pass."""

    async def sleep_async(seconds: float) -> None:
        clock.advance(seconds)

    def wait_for(queue: SimpleQueue[Any], seconds: float) -> bool:
        clock.advance(seconds)
        return not queue.empty()

    monkeypatch.setattr(provider_clock, "now", lambda: pendulum.from_timestamp(clock.now))
    monkeypatch.setattr(provider_clock, "sleep", clock.advance)
    monkeypatch.setattr(provider_clock, "wait_for", wait_for)
    monkeypatch.setattr(provider_clock, "sleep_async", sleep_async)


@pytest.fixture
def held_time(clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> HeldClock:
    """Let the provider live by the test's clock."""
    hold_time(clock, monkeypatch)
    return clock


@pytest.fixture
def client(emulator: Emulator, held_time: HeldClock) -> SiliconFlowClient:
    """A client of the emulator; time is held."""
    return SiliconFlowClient(emulator.api_key, emulator.base_url)


@pytest.fixture
def connection(emulator: Emulator, held_time: HeldClock, monkeypatch: pytest.MonkeyPatch) -> str:
    """An Airflow connection to the emulator; time is held. Gives its id."""
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(emulator.airflow_connection))
    return "siliconflow_default"


@pytest.fixture
def line() -> Callable[..., dict[str, Any]]:
    """Makes a request line: custom_id, prompt, and what else the body shall have."""
    return request_line


@pytest.fixture
def jsonl() -> Callable[[list[Any]], bytes]:
    """Makes a file of objects; a string goes in as it is."""
    return lambda lines: "".join(
        (one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) + "\n" for one in lines
    ).encode()


@pytest.fixture
def sums(jsonl: Callable[[list[Any]], bytes]) -> Callable[[int], bytes]:
    """Makes a file of that many requests: r0 asks for 0 + 1, r1 for 1 + 1, ..."""
    return lambda number: jsonl([request_line(f"r{i}", f"What is {i} + 1?") for i in range(number)])


@pytest.fixture
def part_lines(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets parts have so many lines at most."""
    defaults = PartWriter.__init__.__kwdefaults__
    return lambda lines: monkeypatch.setitem(defaults, "most_lines", lines)


@pytest.fixture
def longest_line(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets lines that others have written have so many bytes at most, once more than that has been read."""

    def limit(size: int) -> None:
        monkeypatch.setattr(jsonl_module, "READ_BYTES", 64)
        for module in (jsonl_module, result_files, source_files):
            monkeypatch.setattr(module, "LONGEST_LINE", size)

    return limit


@pytest.fixture
def peak_of() -> Callable[[Callable[[], Any]], int]:
    """Measures the most bytes that Python held at once during an action."""

    def measure(action: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            action()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Gives what was logged; Airflow writes it to the terminal, in some states past the handlers of `logging`."""
    return lambda: "".join(capsys.readouterr()) or caplog.text


@pytest.fixture
def object_store() -> str:
    """The URL of an object store that is no local directory."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach
    attach("memory", fs=MemoryFileSystem())
    return "memory://bucket"


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A new Airflow's SQLite file, to be copied: pytest's cache keeps one for each set of installed packages."""
    home = tmp_path_factory.mktemp("migrated")
    cache = getattr(request.config, "cache", None)  # `-p no:cacheprovider` leaves none
    folder = cache.mkdir("airflow-databases") if cache else home
    packages = sorted(each.name for each in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))
    kept = folder / f"{hashlib.sha256(repr(packages).encode()).hexdigest()[:16]}.db"
    if not kept.exists():
        environment = os.environ | {"AIRFLOW_HOME": str(home)}
        migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(migrate, env=environment, check=True, capture_output=True)
        # Whole or not there, also for another pytest at the same time.
        whole = folder / f"{kept.name}.{os.getpid()}"
        shutil.copy(home / "airflow.db", whole)
        whole.replace(kept)
    return kept


@pytest.fixture(scope="session")
def dags_folder(migrated_database: Path) -> Path:
    """The folder of an Airflow that can run DAGs; the example DAGs are in it."""
    shutil.copy(migrated_database, Path(_home.name) / "airflow.db")
    return DAGS_FOLDER


@pytest.fixture
def load_dag_file(dags_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a file of that folder, under a name by which its types are found, as Airflow does."""

    def load(name: str) -> ModuleType:
        specification = importlib.util.spec_from_file_location(Path(name).stem, dags_folder / name)
        module = importlib.util.module_from_spec(specification)
        # Bytecode is told apart by size and second: two tests within one, and the second would run the first's file.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        specification.loader.exec_module(module)
        return module

    return load


class TaskInstance:
    """What operators use of a task instance."""

    dag_id = "nightly"
    task_id = "create"
    run_id = "manual__2026-11-23T00:00:00+00:00"
    map_index = -1
    try_number = 1
    max_tries = 3

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}
        self._row = uuid4()

    @property
    def id(self) -> UUID:
        """Each try has another id, also those of a run that was deleted and created again."""
        return uuid5(self._row, str(self.try_number))

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def clear(self, retries: int = 0) -> None:
        """Begin the next try as Airflow does when a person has cleared the task."""
        self.max_tries = self.try_number + retries
        self.try_number += 1


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance()}


@pytest.fixture
def run(context: dict[str, Any]) -> Callable[..., Any]:
    """Run a task to its end as Airflow does: what defers goes on in a fresh operator with the trigger's event."""

    async def only_event(path: str, arguments: dict[str, Any]) -> Any:
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**arguments)
        (event,) = [each async for each in trigger.run()]
        return json.loads(json.dumps(event.payload))

    def run_task(make: Callable[[], BaseOperator]) -> Any:
        step: Callable[[], Any] = partial(make().execute, context)
        while True:
            try:
                return step()
            except TaskDeferred as deferral:
                event = asyncio.run(only_event(*deferral.trigger.serialize()))
                step = partial(make().resume_execution, deferral.method_name, {"event": event}, context)

    return run_task


@pytest.fixture
def service() -> Iterator[ListingService]:
    """An account of batches.

    `hidden` names fields that list items lack, `hidden_of` those of some, `shown_of` what the list shows of them
    instead, and `unlisted` batches that the list lacks.
    """
    running = ListingService()
    yield running
    running.stop()


@pytest.fixture
def account(service: ListingService, held_time: Any) -> SiliconFlowClient:
    """A client of `service`; time is held."""
    return SiliconFlowClient("sk-abc", service.base_url)


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """Makes a batch of a day that was created at a full hour; times are seconds after that."""

    def make(status: str = "in_progress", **fields: Any) -> Batch:
        moments = {name: CREATED + value for name, value in fields.items() if name.endswith("_at")}
        others = {name: value for name, value in fields.items() if not name.endswith("_at")}
        data = {"id": "batch_1", "completion_window": "24h", "created_at": CREATED, "expires_at": CREATED + DAY}
        return Batch.from_json({**data, "status": status, **moments, **others})

    return make


@pytest.fixture
def at() -> Callable[[float], pendulum.DateTime]:
    """Makes a moment: seconds after the creation of `batch`."""
    return lambda seconds: pendulum.from_timestamp(CREATED + seconds)


@pytest.fixture
def workspace(tmp_path: Path) -> Callable[[], Workspace]:
    """Makes the files of a job as another attempt has them: published in `tmp_path / "out"`, an empty local disk."""
    numbers = count(1)

    def make() -> Workspace:
        local = tmp_path / f"attempt-{next(numbers)}"
        local.mkdir()
        return Workspace(storage_path(tmp_path / "out"), local)

    return make


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str], None]:
    """Writes a file for users, as another attempt of the task has written it."""

    def write(name: str, content: str) -> None:
        written = tmp_path / "out" / "_siliconflow" / "written"
        written.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(content)
        (written / f"{name}.{len(content.encode())}.{hashlib.sha256(content.encode()).hexdigest()}").touch()

    return write
