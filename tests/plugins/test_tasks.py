from __future__ import annotations

import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import Submission, digest
from siliconflow_provider.plugins.tasks import TaskInstance, dag_in_label, task_of, task_path_in_label

PLAIN = TaskInstance("nightly", "ask", "manual__2026-05-01T00:00:00+00:00", -1)
LONG = TaskInstance("d" * 250, "t" * 250, "manual__1", 7)


def batch_of(task: TaskInstance, deployment: str = "") -> Batch:
    run_key = digest(deployment, task.dag_id, task.run_id)
    metadata = Submission("key", "file", run_key=run_key, label=task.label).batch_metadata()
    return Batch("batch_1", "in_queue", metadata=metadata)


@pytest.mark.parametrize(
    "task", [PLAIN, TaskInstance("nightly", "group.ask", "run/with/slashes", 12), TaskInstance("é", "ü", "run", 0)]
)
def test_task_instance_is_found_from_metadata(task: TaskInstance) -> None:
    assert task_of(batch_of(task), [""]) == task
    assert task.owns(batch_of(task), [""])


def test_another_deployment_is_another_task_instance() -> None:
    assert task_of(batch_of(PLAIN, "production"), ["test", ""]) is None
    assert not PLAIN.owns(batch_of(PLAIN, "production"), ["test", ""])
    assert task_of(batch_of(PLAIN, "production"), ["production", ""]) == PLAIN


def test_a_cut_label_names_its_task_only() -> None:
    batch = batch_of(LONG)
    assert task_of(batch, [""]) is None
    assert dag_in_label(batch) == LONG.dag_id
    assert task_path_in_label(batch) == f"/dags/{LONG.dag_id}/tasks/{LONG.task_id}"
    assert LONG.owns(batch, [""])


@pytest.mark.parametrize("label", ["", "dag", "dag/task", "dag/task/run", "///", "dag/task/run/x", "a/b/c/1/2/3"])
def test_a_forged_label_names_no_task_instance(label: str) -> None:
    batch = Batch("batch_1", "in_queue", metadata={"airflow_task": label, "airflow_run": digest("", "other", "run")})
    assert task_of(batch, [""]) is None


def test_paths_are_quoted() -> None:
    task = TaskInstance("a b", "t#1", "x/../../y?z", 3)
    assert task.path == "/dags/a%20b/runs/x%2F..%2F..%2Fy%3Fz/tasks/t%231/mapped/3"
