"""DAG runs in which something is killed with SIGKILL, and what becomes of them."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import requests

from tests.system.components import API_KEY, Components
from tests.system.crash_points import PARTS, Condition, Point
from tests.system.dag_runs import DagRun, TaskInstance
from tests.system.emulators import EmulatorProcess

REQUESTS = 300
# Two in the last part: alone, a request that is sent again would be a file that is there already.
JOB_REQUESTS = 5_000 * (PARTS - 1) + 2
BIG_PROMPT_BYTES = 100_000
SIDE_BY_SIDE = 4
ATTEMPTS = 3
LONGEST = 300  # seconds until a run comes to something
EMULATOR = ("--queue-seconds", "0", "--run-seconds", "1", "--finalize-seconds", "0")
DAG_FILE = """
from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator

for name, folder, deferrable, is_job, job_arguments in {crashes!r}:
    arguments = {{"siliconflow_conn_id": name, "retries": 3, "retry_delay": timedelta(seconds=1)}}
    with DAG(name, schedule=None, start_date=pendulum.datetime(2025, 1, 1, tz="UTC"), default_args=arguments):
        if is_job:
            BatchInferenceOperator(
                task_id="job",
                input_path=f"{{folder}}/requests.jsonl",
                output_path=f"{{folder}}/output",
                deferrable=deferrable,
                poll_interval=1,
                **job_arguments,
            )
            continue
        upload = UploadFileOperator(task_id="upload", file_path=f"{{folder}}/requests.jsonl")
        create = CreateBatchOperator(
            task_id="create", input_file_id=upload.output, deferrable=deferrable, poll_interval=1
        )
        DownloadResultsOperator(task_id="download", batch_id=create.output, output_path=f"{{folder}}/output")
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a DAG run in which something was killed.

    :param problems: what is not as it must be; empty when all is well
    """

    title: str
    wait: str
    exit_signal: str
    end: str
    files: int
    batches: int
    most_executions: int
    rows: int
    problems: tuple[str, ...]


class Crash:
    """One DAG run on an emulator of its own; the base of what is killed in it.

    :param wait: `deferred` or `worker`
    :param folder: a new directory
    """

    title: str
    is_big = is_job = is_equal = False
    job_arguments: Mapping[str, Any] = {}
    results = "results.jsonl"
    # What is to be found at the end.
    files = batches = most_executions = 1
    requests = rows = REQUESTS

    def __init__(self, components: Components, name: str, wait: str, folder: Path) -> None:
        self.components, self.name, self.wait = components, name, wait
        self.output, self._source = folder / "output", folder / "requests.jsonl"
        folder.mkdir(parents=True)
        self.emulator = EmulatorProcess(folder / "emulator", *EMULATOR)
        self.run: DagRun
        self.exit_signal = "unknown"

    @property
    def dag_arguments(self) -> tuple[str, str, bool, bool, dict[str, Any]]:
        """What the DAG file has of it."""
        is_deferrable = self.wait == "deferred"
        return self.name, str(self._source.parent), is_deferrable, self.is_job, dict(self.job_arguments)

    def task_instance(self, task_id: str) -> TaskInstance:
        """One of the run's task instances."""
        return self.run.task_instance(task_id)

    def has_xcom(self, task_id: str, key: str) -> bool:
        """Whether Airflow has the XCom."""
        try:
            return bool(self.task_instance(task_id).xcom(key))
        except requests.HTTPError as error:
            if error.response.status_code != requests.codes.not_found:
                raise
            return False

    def outcome(self) -> Outcome:
        """Kill, let Airflow go on, and look at what came of it."""
        self._source.write_text("".join(map(self._request, range(self.requests))))
        with self.emulator:
            self.components.api.create_connection(self.name, f"{self.emulator.origin}/v1", API_KEY)
            try:
                self._kill()
                end, problems = self._end(), []
            # One row of the table: the others shall be seen all the same.
            except (AssertionError, requests.RequestException, psutil.Error) as error:
                end, problems = "not as it must", [str(error)]
            return self._outcome(end, problems)

    def _kill(self) -> None:
        """Start the run, and kill."""
        raise NotImplementedError

    def _end(self) -> str:
        """Wait for the run's end, and say it in words."""
        raise NotImplementedError

    def _start(self, faults: Iterable[dict[str, Any]], plan: dict[str, Any]) -> None:
        for fault in faults:
            self.emulator.control("POST", "/faults", fault)
        self.emulator.control("POST", "/plans", plan)
        self.run = self.components.trigger_dag_run(self.name)

    def _until(self, condition: Condition, pause: float) -> None:
        what = f"{self.name}: {self.title}"
        self.components.wait_until(lambda: condition(self), what, LONGEST, self.run.describe, pause)

    def _outcome(self, end: str, problems: list[str]) -> Outcome:
        uploads = self.emulator.requests("answered", "POST /files")
        found = {
            "exit_signal": self.exit_signal,
            "files": sum(each["status"] == 200 for each in uploads),
            "batches": self.emulator.control("GET", "/counts")["batches"],
            "most_executions": self.emulator.control("GET", "/executions")["most"],
            "rows": len({each["custom_id"] for each in self._answers() if each["status"] == "succeeded"}),
        }
        wanted = {"exit_signal": "SIGKILL"} | {name: getattr(self, name) for name in found if name != "exit_signal"}
        problems += [f"{name} is {found[name]}, not {wanted[name]}" for name in found if found[name] != wanted[name]]
        return Outcome(self.title, self.wait, end=end, problems=tuple(problems), **found)

    def _answers(self) -> Iterator[dict[str, Any]]:
        path = self.output / self.results
        if not path.exists():
            return
        if path.suffix == ".parquet":
            yield from pq.read_table(path).to_pylist()
        else:
            yield from map(json.loads, path.read_text().splitlines())

    def _request(self, number: int) -> str:
        custom_id, number = f"r{number}", number // 2 if self.is_equal else number
        text = f"{number} " * (BIG_PROMPT_BYTES // len(f"{number} ")) if self.is_big else f"What is {number} + 1?"
        body = {"model": "deepseek-ai/DeepSeek-V3", "messages": [{"role": "user", "content": text}]}
        return json.dumps({"custom_id": custom_id, "body": body}) + "\n"


class TaskKill(Crash):
    """The process of a task is killed at a point of its life."""

    def __init__(self, components: Components, point: Point, wait: str, folder: Path) -> None:
        name = f"{point.name}_{wait}"
        super().__init__(components, name, wait, folder / name)
        self.point, self.title, self.is_big = point, point.title, point.big
        self.is_job, self.most_executions = point.is_job, point.executions
        if self.is_job:
            self.requests = self.rows = JOB_REQUESTS
            # What a second round sends again is a part more.
            self.files = self.batches = point.parts + point.executions - 1
            self.job_arguments, self.is_equal, self.results = point.arguments, point.equal, point.results
        if point.verdict:
            self.rows = 0
        if not self.batches:
            self.most_executions = 0
        self.process: psutil.Process
        self.killed_try: int

    def _kill(self) -> None:
        for _ in range(ATTEMPTS):
            if self._hits():
                return
            self.run.wait_for("success", pause=1)
            shutil.rmtree(self.output, ignore_errors=True)
            self.emulator.renew()
        raise AssertionError(f"the process went past the point {ATTEMPTS} times")

    def _hits(self) -> bool:
        """Whether the process was at the point for certain when it was killed: it is stopped and looked at first."""
        self._start(self.point.faults, self.point.plan)
        self._until(self.point.near or self.point.reached, pause=0.02)
        task = self.task_instance(self.point.task_id)
        self.process, self.killed_try = task.process(), task.try_number
        self._until(self.point.reached, pause=0.0002)
        self.process.suspend()
        self._until(self.point.settled, pause=0.05)
        if self.point.passed(self):
            self.process.resume()
            return False
        self.process.kill()
        return True

    def _end(self) -> str:
        task = self.task_instance(self.point.task_id)
        self.run.wait_for("failed" if self.point.verdict else "success", LONGEST, pause=1)
        log, tries = task.log(self.killed_try), task.try_number
        self.exit_signal = "SIGKILL" if "SIGKILL" in log or "return code -9" in log else "unknown"
        assert tries > self.killed_try
        if not self.point.verdict:
            return f"green on try {tries} of `{task.task_id}`"
        assert task.state == "failed"
        assert self.point.verdict not in log
        assert self.point.verdict in task.log(tries)
        return f"the same verdict on try {tries}"


class ComponentKill(Crash):
    """A component is killed while a batch is deferred, and started again."""

    def __init__(self, components: Components, component: str, folder: Path) -> None:
        name = f"kill_{component.replace('-', '_')}"
        super().__init__(components, name, "deferred", folder / name)
        self.component = component
        self.title = f"{component} killed while the task is deferred, and started again"

    def _kill(self) -> None:
        self._start((), {"run_seconds": 20})
        self._until(lambda crash: bool(crash.emulator.requests("answered", "GET /batches/{id}")), pause=0.2)
        self.task_instance("create").wait_for("deferred")
        if self.component == "emulator":
            returncode = self.emulator.kill()
            self.emulator.start()
        else:
            returncode = self.components.kill(self.component)
            self.components.restart(self.component)
        self.exit_signal = signal.Signals(-returncode).name

    def _end(self) -> str:
        self.run.wait_for("success", LONGEST, pause=1)
        return f"green on try {self.task_instance('create').try_number} of `create`"


def outcomes(components: Components, crashes: list[Crash], side_by_side: int = SIDE_BY_SIDE) -> list[Outcome]:
    """Have some crashes, so many at a time."""
    with ThreadPoolExecutor(side_by_side) as pool:
        return list(pool.map(Crash.outcome, crashes))


def add_dags(components: Components, crashes: list[Crash]) -> None:
    """Write the DAGs of crashes, and wait until Airflow has read them."""
    text = DAG_FILE.format(crashes=[each.dag_arguments for each in crashes])
    (components.dags_folder / f"{crashes[0].name}_and_others.py").write_text(text)
    components.wait_until(lambda: components.api.has_dag(crashes[-1].name), "Airflow has read the DAGs")
