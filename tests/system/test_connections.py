"""How a triggerer comes by a connection: stored in the database, or kept by a secrets backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.components import Components
from tests.system.dag_runs import DagRun, TaskInstance
from tests.system.secrets_backend import CONN_ID


def deferred_task(run: DagRun, words: str = "is in_progress") -> TaskInstance:
    """The run's `create`, deferred, once its log has these words."""
    create = run.task_instance("create")
    run.components.wait_until(lambda: words in create.log(), f"the log has {words!r}", 60, run.describe)
    create.wait_for("deferred")
    return create


def test_two_triggers_share_a_stored_connection(components: Components, two_batches: Callable[[], DagRun]) -> None:
    """One that breaks the triggerer breaks the other one too."""
    run = two_batches()
    run.wait_for("success")
    assert {run.task_instance(each).try_number for each in ("first", "second")} == {1}
    assert "Trigger runner failed" not in components.log("triggerer")


@pytest.mark.slow
def test_a_slow_secrets_backend_costs_time_alone(run_of_one_batch: Callable[..., DagRun]) -> None:
    run = run_of_one_batch(20, poll_interval=1, siliconflow_conn_id=CONN_ID)
    create = deferred_task(run)
    run.components.set_secrets_backend(seconds=12)
    run.components.restart("triggerer")
    run.wait_for("success")
    assert create.try_number == 1
    assert len(run.components.requests("POST", "/v1/batches")) == 1


@pytest.mark.slow
def test_a_secrets_backend_that_fails_is_waited_for(run_of_one_batch: Callable[..., DagRun]) -> None:
    run = run_of_one_batch(20, poll_interval=1, siliconflow_conn_id=CONN_ID)
    create = deferred_task(run)
    run.components.set_secrets_backend(fails=True)
    run.components.restart("triggerer")
    create = deferred_task(run, "could not be read: ControlledBackend: OSError: no route to the vault")
    run.components.set_secrets_backend()
    run.wait_for("success")
    assert create.try_number == 1
    assert len(run.components.requests("POST", "/v1/batches")) == 1
