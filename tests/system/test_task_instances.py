from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.dag_runs import DagRun

pytestmark = pytest.mark.slow


def assert_one_batch_for_all_tries(run: DagRun) -> None:
    """The run ends green on the task's second try, with one batch that nobody cancelled."""
    run.wait_for("success")
    create = run.task_instance("create")
    assert create.try_number == 2
    assert len(run.components.requests("POST", "/v1/batches")) == 1
    assert run.components.requests("POST", "/v1/batches/.*/cancel") == []
    assert create.xcom() in create.log(1)


def test_a_task_killed_while_it_waits_is_retried_with_its_batch(run_of_one_batch: Callable[..., DagRun]) -> None:
    run = run_of_one_batch(10, deferrable=False)
    create = run.task_instance("create")
    what = "the task waits on the worker"
    run.components.wait_until(lambda: "waiting on the worker" in create.log(), what, 60, run.describe)
    create.process().kill()
    assert_one_batch_for_all_tries(run)


def test_a_task_marked_failed_and_cleared_goes_on_with_its_batch(run_of_one_batch: Callable[..., DagRun]) -> None:
    run = run_of_one_batch(10)
    create = run.task_instance("create")
    create.wait_for("deferred")
    create.set_state("failed")
    run.wait_for("failed")
    create.clear()
    assert_one_batch_for_all_tries(run)
