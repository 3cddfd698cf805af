"""DAG runs and task instances, as tests speak of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil

if TYPE_CHECKING:
    from tests.system.components import Components

ENDS = ("success", "failed")


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG on running components."""

    components: Components = field(repr=False)
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """Its path in the REST API."""
        return f"/dags/{self.dag_id}/dagRuns/{quote(self.run_id)}"

    @property
    def state(self) -> str:
        """`queued`, `running`, `success` or `failed`."""
        return self.components.api.call("GET", self.path)["state"]

    def task_instance(self, task_id: str, map_index: int = -1) -> TaskInstance:
        """One of its task instances."""
        return TaskInstance(self, task_id, map_index)

    def task_states(self) -> dict[str, str | None]:
        """The state of each task instance; mapped ones as `task_id[index]`."""
        instances = self.components.api.call("GET", f"{self.path}/taskInstances")["task_instances"]
        return {
            each["task_id"] + (f"[{each['map_index']}]" if each["map_index"] >= 0 else ""): each["state"]
            for each in instances
        }

    def wait_for(self, state: str, seconds: float = 300, *, pause: float = 0.2) -> None:
        """Return once the run has the state.

        :param pause: seconds between two looks
        :raises AssertionError: when it ends in another one, or the time is over
        """
        self.components.wait_until(lambda: self._has(state), f"{self} is {state}", seconds, self.describe, pause)

    def describe(self) -> str:
        """Its state, and that of its task instances with the end of their logs."""
        logs = "".join(
            f"--- {path.relative_to(self.components.logs_folder)}\n{path.read_text()[-3000:]}\n"
            for path in sorted(self.logs_folder.rglob("*.log*"))
        )
        return f"{self} is {self.state}, its task instances {self.task_states()}\n{logs}"

    @property
    def logs_folder(self) -> Path:
        """Where the logs of its task instances are."""
        return self.components.logs_folder / f"dag_id={self.dag_id}" / f"run_id={self.run_id}"

    def _has(self, state: str) -> bool:
        current = self.state
        assert current == state or current not in ENDS, self.describe()
        return current == state


@dataclass(frozen=True)
class TaskInstance:
    """One task instance of a DAG run, asked for anew at each look."""

    run: DagRun
    task_id: str
    map_index: int

    def fields(self) -> dict[str, Any]:
        """What the REST API says of it."""
        mapped = f"/{self.map_index}" if self.map_index >= 0 else ""
        return self.run.components.api.call("GET", f"{self.run.path}/taskInstances/{self.task_id}{mapped}")

    @property
    def state(self) -> str | None:
        """`None` before it is scheduled, then such as `running`, `deferred`, `up_for_retry`, `success`."""
        return self.fields()["state"]

    @property
    def try_number(self) -> int:
        """1 for the first."""
        return self.fields()["try_number"]

    def wait_for(self, state: str, seconds: float = 120) -> None:
        """Return once the task instance has the state.

        :raises AssertionError: when the time is over
        """
        what = f"{self.run.dag_id}.{self.task_id} is {state}"
        self.run.components.wait_until(lambda: self.state == state, what, seconds, self.run.describe)

    def xcom(self, key: str = "return_value") -> Any:
        """The value of an XCom; text on Airflow 2."""
        return self.run.components.api.xcom(self.run.dag_id, self.run.run_id, self.task_id, self.map_index, key)

    def log(self, try_number: int = 1) -> str:
        """The log of a try, worker's and triggerers' parts together."""
        return "".join(path.read_text() for path in sorted(self._logs_folder.glob(f"attempt={try_number}.log*")))

    def trigger_logs(self, try_number: int = 1) -> list[str]:
        """What each triggerer wrote for a try, the first triggerer's first."""
        paths = self._logs_folder.glob(f"attempt={try_number}.log.trigger.*.log")
        return [path.read_text() for path in sorted(paths, key=lambda path: int(path.name.split(".")[-2]))]

    def clear(self, *, downstream: bool = True) -> None:
        """Clear it as a person does in the UI."""
        self.run.components.api.clear_task_instances(self.run.dag_id, self.run.run_id, [self.task_id], downstream)

    def set_state(self, state: str) -> None:
        """Mark it as `failed` or `success`, as a person does in the UI."""
        api = self.run.components.api
        api.set_task_instance_state(self.run.dag_id, self.run.run_id, self.task_id, state)

    def process(self) -> psutil.Process:
        """The process in which the task's own code runs; its parent supervises it."""
        pid = self.fields()["pid"]
        assert pid, f"{self} has no process"
        return psutil.Process(pid)

    @property
    def _logs_folder(self) -> Path:
        folder = self.run.logs_folder / f"task_id={self.task_id}"
        return folder / f"map_index={self.map_index}" if self.map_index >= 0 else folder
