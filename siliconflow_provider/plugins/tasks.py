"""Find the task instance that a batch belongs to, from the batch's metadata."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote

from siliconflow_provider.api.limits import MAXIMUM_METADATA_VALUE
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import AIRFLOW_RUN, AIRFLOW_TASK, digest, is_digest

# A cut label may lack three bytes, the rest of a character.
_LONGEST_WHOLE = MAXIMUM_METADATA_VALUE - 4


@dataclass(frozen=True)
class TaskInstance:
    """A task instance of this Airflow.

    :param map_index: -1 if the task is not mapped
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int

    @property
    def label(self) -> str:
        """Its name in the metadata of its batches, before that is cut."""
        return f"{self.dag_id}/{self.task_id}/{self.run_id}/{self.map_index}"

    @property
    def path(self) -> str:
        """Its page, below Airflow's own address."""
        mapped = "" if self.map_index < 0 else f"/mapped/{self.map_index}"
        return f"/dags/{_quoted(self.dag_id)}/runs/{_quoted(self.run_id)}/tasks/{_quoted(self.task_id)}{mapped}"

    @property
    def place(self) -> str:
        """Its place in the addresses of its tab."""
        return f"{_quoted(self.dag_id)}/{_quoted(self.task_id)}/{self.map_index}/{_quoted(self.run_id)}"

    def owns(self, batch: Batch, deployments: Collection[str]) -> bool:
        """Return True if this task instance submitted a batch.

        :param deployments: names of this Airflow; see `BatchList`
        """
        return self.is_named_by(batch) and _is_of_run(batch, self.dag_id, self.run_id, deployments)

    def is_named_by(self, batch: Batch) -> bool:
        """Return True if a batch has the label of this task instance, or of one with the same name elsewhere."""
        label = self.label.encode()[:MAXIMUM_METADATA_VALUE].decode(errors="ignore")
        return batch.metadata.get(AIRFLOW_TASK) == label


def task_of(batch: Batch, deployments: Collection[str]) -> TaskInstance | None:
    """Return the task instance that submitted a batch.

    None if it is of another Airflow, or of none, or if its label is cut: the hash of the DAG run in the metadata tells.
    """
    label = batch.metadata.get(AIRFLOW_TASK, "")
    dag_id, _, rest = label.partition("/")
    task_id, _, rest = rest.partition("/")
    run_id, _, index = rest.rpartition("/")
    if len(label.encode()) > _LONGEST_WHOLE or not run_id or not index.removeprefix("-").isdecimal():
        return None
    return TaskInstance(dag_id, task_id, run_id, int(index)) if _is_of_run(batch, dag_id, run_id, deployments) else None


def dag_in_label(batch: Batch) -> str:
    """Return the DAG id that a batch's label names, true or not; empty if there is none."""
    dag_id, slash, _ = batch.metadata.get(AIRFLOW_TASK, "").partition("/")
    return dag_id if slash else ""


def task_path_in_label(batch: Batch) -> str | None:
    """Return the page of the task that a batch's label names, for a label whose run is cut off."""
    parts = batch.metadata.get(AIRFLOW_TASK, "").split("/", 2)
    return f"/dags/{_quoted(parts[0])}/tasks/{_quoted(parts[1])}" if len(parts) == 3 and all(parts[:2]) else None


def _is_of_run(batch: Batch, dag_id: str, run_id: str, deployments: Collection[str]) -> bool:
    shown = batch.metadata.get(AIRFLOW_RUN)
    return any(is_digest(shown, digest(deployment, dag_id, run_id)) for deployment in deployments)


def _quoted(name: str) -> str:
    return quote(name, safe="")
