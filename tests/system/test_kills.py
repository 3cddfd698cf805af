"""What becomes of a batch when a person ends the task that waits for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.dag_runs import DagRun, TaskInstance

pytestmark = pytest.mark.slow

CANCEL = "/v1/batches/.*/cancel"


def waiting_task(run: DagRun, words: str) -> TaskInstance:
    """The run's `create`, once its log has these words."""
    create = run.task_instance("create")
    run.components.wait_until(lambda: words in create.log(), f"the log has {words!r}", 60, run.describe)
    return create


def deferred_task(run: DagRun) -> TaskInstance:
    """The run's `create`, once its trigger has asked for the batch."""
    create = waiting_task(run, "is in_progress")
    create.wait_for("deferred")
    return create


def cancelled(run: DagRun) -> int:
    """How many batches were cancelled."""
    return len(run.components.requests("POST", CANCEL))


def wait_for_log(run: DagRun, task: TaskInstance, words: str) -> None:
    run.components.wait_until(lambda: words in task.log(), f"the log has {words!r}", 60, run.describe)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked_while_deferred_cancels_the_batch(run_of_one_batch: Callable[..., DagRun], state: str) -> None:
    run = run_of_one_batch(120, poll_interval=1, cancel_on_kill=True)
    create = deferred_task(run)
    create.set_state(state)
    run.components.wait_until(lambda: cancelled(run) == 1, "the batch is cancelled", 60, run.describe)
    wait_for_log(run, create, "what has been answered is billed")
    run.wait_for(state)


def test_cleared_while_deferred_goes_on_with_its_batch(run_of_one_batch: Callable[..., DagRun]) -> None:
    run = run_of_one_batch(30, poll_interval=1, cancel_on_kill=True)
    create = deferred_task(run)
    create.clear()
    run.wait_for("success")
    assert cancelled(run) == 0
    assert len(run.components.requests("POST", "/v1/batches")) == 1
    assert create.xcom() in create.log(1)
    assert "which an earlier attempt created" in create.log(create.try_number)


def test_marked_while_it_waits_on_the_worker_cancels_the_batch(run_of_one_batch: Callable[..., DagRun]) -> None:
    run = run_of_one_batch(120, poll_interval=1, cancel_on_kill=True, deferrable=False)
    create = waiting_task(run, "is in_progress")
    create.set_state("failed")
    run.components.wait_until(lambda: cancelled(run) == 1, "the batch is cancelled", 60, run.describe)
    wait_for_log(run, create, "what has been answered is billed")
    run.wait_for("failed")


@pytest.mark.parametrize("deferrable", [True, False])
def test_marked_without_cancel_on_kill_leaves_the_batch(
    run_of_one_batch: Callable[..., DagRun], deferrable: bool
) -> None:
    """The log says that it runs on, what that costs and how to end it."""
    run = run_of_one_batch(120, poll_interval=1, deferrable=deferrable)
    create = deferred_task(run) if deferrable else waiting_task(run, "is in_progress")
    create.set_state("failed")
    wait_for_log(run, create, "is still running; answered requests are billed")
    run.wait_for("failed")
    assert cancelled(run) == 0
    assert "python -m siliconflow_provider cancel batch_" in create.log()
