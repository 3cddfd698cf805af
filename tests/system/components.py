"""A real Airflow in a directory of its own: each component is a process, and so is the emulator."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import requests

from tests.system.dag_runs import DagRun
from tests.system.emulators import free_ports, logged_requests
from tests.system.processes import Component
from tests.system.rest_api import AIRFLOW_3, RestApi
from tests.system.secrets_backend import FILE as SECRETS_FILE

WEB = "api-server" if AIRFLOW_3 else "webserver"
NAMES = ("emulator", WEB, "scheduler", "triggerer", *(["dag-processor"] if AIRFLOW_3 else []))
API_KEY = "sk-emulator"
CONN_ID = "siliconflow_default"
ROOT = Path(__file__).parent.parent.parent

# Shorter than Airflow's defaults, so that what it notices late is noticed within a test.
SETTINGS = {
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__FERNET_KEY": "b25seSBmb3IgdGVzdHMsIG9mIDMyIGJ5dGVzLi4uLi4=",
    "CORE__PARALLELISM": "4",
    "CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
    # Only what a test triggers runs.
    "SCHEDULER__USE_JOB_SCHEDULE": "False",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "SECRETS__BACKEND": "tests.system.secrets_backend.ControlledBackend",
}
SETTINGS_3 = {
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "API_AUTH__JWT_SECRET": "only for tests, and long enough for the algorithm that signs with it",
    "API__SECRET_KEY": "only for tests",
    # Airflow 3.0 starts four, and kills those that are slow to come up.
    "API__WORKERS": "1",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "2",
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}
SETTINGS_2 = {
    "CORE__EXECUTOR": "SequentialExecutor",
    "API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
    "WEBSERVER__SECRET_KEY": "only for tests",
    "WEBSERVER__WORKERS": "1",
    "SCHEDULER__DAG_DIR_LIST_INTERVAL": "2",
    "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
    "SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "15",
    "SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "3",
}


class Components:
    """As a context manager: started and healthy inside, gone without a trace of a process outside.

    :param home: a new directory for everything: database, DAGs folder, logs, the emulator's data
    :param database: a migrated SQLite file, which is copied, or the URL of a migrated database
    """

    def __init__(self, home: Path, database: Path | str) -> None:
        self.home = home
        self.dags_folder, self.logs_folder = home / "dags", home / "logs"
        self.dags_folder.mkdir(parents=True)
        self._database_url = database if isinstance(database, str) else None
        if isinstance(database, Path):
            shutil.copy(database, home / "airflow.db")
        # Else each component writes one, with secrets of its own, and the last one's stays.
        (home / "airflow.cfg").touch()
        (home / "tmp").mkdir()
        if not AIRFLOW_3:  # everybody may do everything, as with `simple_auth_manager_all_admins`
            (home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\n')
        self._port, self._emulator_port, self._storage_port = free_ports(3)
        self._emulator_arguments: Sequence[str] = ()
        self.emulator_url = f"http://127.0.0.1:{self._emulator_port}/v1"
        self.environment = self._environment()
        self.set_secrets_backend()
        self.api = RestApi(f"http://127.0.0.1:{self._port}")
        self._running: dict[str, Component] = {}
        self._orphaned: list[Component] = []  # main process killed, the others perhaps not

    def __enter__(self) -> Self:
        try:
            self.heal()
            self.api.create_connection(CONN_ID, self.emulator_url, API_KEY)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, *, second: bool = False) -> Component:
        """Start a component, in place of what there is of that name, without waiting for its health.

        :param name: one of `NAMES`
        :param second: another one beside that of this name; it is called "second <name>" from then on
        """
        key = f"second {name}" if second else name
        if key in self._running:
            self.kill(key)
        command = [sys.executable, "-m", *self._command(name)]
        self._running[key] = Component(key, command, self.environment, self.home / f"{key.replace(' ', '-')}.log")
        return self._running[key]

    def kill(self, name: str, *, descendants: bool = True) -> int:
        """SIGKILL a component: all its processes, tasks included, or the main one alone.

        :return: what its main process ended with
        """
        component = self._running.pop(name)
        returncode = component.kill(descendants=descendants)
        if not descendants:
            self._orphaned.append(component)
        return returncode

    def pause(self, name: str) -> None:
        """SIGSTOP all processes of a component."""
        self._running[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT all processes of a component."""
        self._running[name].signal(signal.SIGCONT)

    def restart(self, name: str) -> None:
        """SIGKILL a component if it runs, start it again and wait for its health."""
        self.start(name)
        self.wait_until_healthy(name)

    def heal(self) -> None:
        """Bring about what a start does: one running and healthy process of each name."""
        for component in [*self._orphaned, *(self._running.pop(each) for each in self._running.keys() - NAMES)]:
            component.kill()
        self._orphaned = []
        for name in NAMES:
            if name in self._running and self._running[name].is_running():
                self.resume(name)
            else:
                self.start(name)
        self.wait_until_healthy(*NAMES)

    def renew_emulator(self, *arguments: str) -> None:
        """Start an emulator that knows of nothing, in place of the one that runs.

        :param arguments: for its command line, such as `"--run-seconds", "30"`
        """
        self.kill("emulator")
        shutil.rmtree(self.home / "emulator")
        self._emulator_arguments = arguments
        self.restart("emulator")

    def set_secrets_backend(self, *, seconds: float = 0, fails: bool = False) -> None:
        """Say how the secrets backend is from now on.

        :param seconds: how long it takes for an answer
        :param fails: whether it raises then
        """
        connection = {
            "conn_type": "siliconflow",
            "host": self.emulator_url,
            "password": API_KEY,
            "extra": {"deployment": "system"},
        }
        new = self.home / f"{SECRETS_FILE}.new"
        new.write_text(json.dumps({"connection": connection, "seconds": seconds, "fails": fails}))
        new.replace(self.home / SECRETS_FILE)

    def stop(self) -> None:
        """Kill everything that was started."""
        for component in [*self._running.values(), *self._orphaned]:
            component.kill()
        self._running, self._orphaned = {}, []

    def log(self, name: str) -> str:
        """What a component has printed since its start."""
        return self._running[name].log

    def wait_until_healthy(self, *names: str, seconds: float = 300) -> None:
        """Return once each of these components says of itself, since its last start, that it is well."""
        for name in names:
            self.wait_until(lambda name=name: self._is_healthy(self._running[name]), f"{name} is healthy", seconds)

    def wait_until(
        self,
        condition: Callable[[], bool],
        what: str,
        seconds: float = 120,
        describe: Callable[[], str] = lambda: "",
        pause: float = 0.2,
    ) -> None:
        """Return once the condition holds.

        :param what: the condition in words
        :param describe: says more, when the time is over
        :param pause: seconds between two looks
        :raises AssertionError: when the time is over or a component has died, with the ends of the logs
        """
        deadline = time.monotonic() + seconds
        while not _holds(condition):
            for name, component in self._running.items():
                if not component.is_running():
                    status = component.process.returncode
                    raise AssertionError(f"{name} ended with {status} before {what}:\n{component.log[-5000:]}")
            if time.monotonic() > deadline:
                logs = (f"--- {name}\n{component.log[-2000:]}" for name, component in self._running.items())
                raise AssertionError("\n".join([f"not within {seconds:g} s: {what}", describe(), *logs]))
            time.sleep(pause)

    def trigger_dag_run(self, dag_id: str, conf: dict[str, Any] | None = None) -> DagRun:
        """Wait until the DAG has been read, unpause it and trigger a run."""
        self.wait_until(lambda: self.api.has_dag(dag_id), f"Airflow has read the DAG {dag_id}")
        return DagRun(self, dag_id, self.api.trigger_dag_run(dag_id, conf or {}))

    def requests(self, method: str, path: str = "/v1/.*", event: str = "answered") -> list[dict[str, Any]]:
        """What the emulator's request log has, as its JSON lines.

        :param path: a regular expression of the whole path
        :param event: `received` or `answered`
        """
        entries = logged_requests(self.home / "emulator")
        wanted = [each for each in entries if (each["event"], each["method"]) == (event, method)]
        return [each for each in wanted if re.fullmatch(path, each["path"])]

    def _command(self, name: str) -> list[str]:
        if name == "emulator":
            ports = ["--port", str(self._emulator_port), "--storage-port", str(self._storage_port)]
            data = ["--data-dir", str(self.home / "emulator")]
            return ["siliconflow_provider.emulator", *ports, *data, *self._emulator_arguments]
        # Logs are read from the disk, so nobody needs to serve them on a port.
        web = ["--port", str(self._port), "--host" if AIRFLOW_3 else "--hostname", "127.0.0.1"]
        arguments = {WEB: web, "dag-processor": []}.get(name, ["--skip-serve-logs"])
        return ["airflow", name, *arguments]

    def _environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._port}"
        own = {
            "CORE__DAGS_FOLDER": str(self.dags_folder),
            "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "API__BASE_URL": url,
            "WEBSERVER__BASE_URL": url,
        }
        if self._database_url is not None:
            own |= {"DATABASE__SQL_ALCHEMY_CONN": self._database_url, "CORE__EXECUTOR": "LocalExecutor"}
        settings = SETTINGS | (SETTINGS_3 if AIRFLOW_3 else SETTINGS_2) | own
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            # SequentialExecutor calls `airflow` by its name.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),  # what is killed leaves its temporary files
            "AIRFLOW_HOME": str(self.home),
            # For the secrets backend, which is in the tests.
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }

    def _is_healthy(self, component: Component) -> bool:
        name = component.name.removeprefix("second ")
        if name == "emulator":
            return "Ctrl-C stops it." in component.log
        health = self.api.health()
        if name == WEB:
            return True
        key = name.replace("-", "_")
        heartbeat = health[key][f"latest_{key}_heartbeat"]
        # A predecessor that was killed counts as healthy for a while.
        return health[key]["status"] == "healthy" and datetime.fromisoformat(heartbeat) > component.started_at


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except requests.RequestException as error:  # the api-server may be down, or SQLite locked
        if error.response is not None and error.response.status_code < 500:
            raise
        return False
