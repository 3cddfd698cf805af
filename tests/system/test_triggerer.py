from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.system.components import Components
from tests.system.dag_runs import DagRun, TaskInstance
from tests.system.rest_api import AIRFLOW_3

pytestmark = pytest.mark.slow


@pytest.fixture
def deferred_run(run_of_one_batch: Callable[..., DagRun]) -> DagRun:
    """A DAG run whose task waits in the triggerer for a batch that runs for 75 seconds."""
    run = run_of_one_batch(75, poll_interval=1, cancel_on_kill=True)
    create = run.task_instance("create")
    what = "the triggerer has asked for the batch"
    run.components.wait_until(lambda: "is in_progress" in create.log(), what, 60, run.describe)
    assert create.state == "deferred"
    return run


def assert_one_batch_was_enough(run: DagRun) -> None:
    """The run ends green on the task's first try, with one batch that nobody cancelled."""
    run.wait_for("success")
    assert run.task_instance("create").try_number == 1
    assert len(run.components.requests("POST", "/v1/batches")) == 1
    assert run.components.requests("POST", "/v1/batches/.*/cancel") == []


def test_a_killed_triggerer_costs_nothing(deferred_run: DagRun) -> None:
    """Its successor goes on with the wait, on the same try."""
    deferred_run.components.restart("triggerer")
    assert_one_batch_was_enough(deferred_run)
    killed, successor = deferred_run.task_instance("create").trigger_logs()
    assert "is completed" not in killed
    assert "is completed" in successor


def test_a_stalled_triggerer_that_wakes_up_cancels_nothing(deferred_run: DagRun) -> None:
    """Another one has its triggers by then; the first one is told to stop its own, as if a person had ended them."""
    components, create = deferred_run.components, deferred_run.task_instance("create")
    components.pause("triggerer")
    components.start("triggerer", second=True)
    what = "the second triggerer has taken the trigger over"
    components.wait_until(lambda: len(create.trigger_logs()) == 2, what, 60, deferred_run.describe)
    components.resume("triggerer")
    what = "the first triggerer has lost the trigger"
    components.wait_until(lambda: has_lost_its_trigger(components, create), what, 20, deferred_run.describe)
    assert create.state == "deferred"
    assert_one_batch_was_enough(deferred_run)
    # Either may have seen the end: the first one asks on until it is told to stop.
    assert "is completed" in "".join(create.trigger_logs())


def has_lost_its_trigger(components: Components, create: TaskInstance) -> bool:
    """Whether the first triggerer says so: its trigger ended without an event."""
    if AIRFLOW_3:
        return "its batches were not cancelled" in create.trigger_logs()[0]
    pattern = rf"trigger {re.escape(create.run.dag_id)}/.*/create/.* completed"
    return re.search(pattern, components.log("triggerer")) is not None
