from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import InvalidRequestError, NotFoundError
from siliconflow_provider.emulator.server import Emulator
from siliconflow_provider.exceptions import InvalidConnectionError
from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator


@pytest.fixture
def deploy(emulator: Emulator, connection: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set another `deployment` in the connection, or none."""

    def set_name(deployment: str) -> None:
        value = emulator.airflow_connection | {"extra": {"deployment": deployment} if deployment else {}}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(value))

    return set_name


@pytest.fixture
def submit(connection: str, file_id: str, context: dict[str, Any]) -> Callable[..., str]:
    """Submit a batch as a task of this DAG run, without waiting."""

    def make(task_id: str = "create") -> str:
        context["ti"].task_id = task_id
        operator = CreateBatchOperator(task_id=task_id, input_file_id=file_id, wait_for_completion=False)
        return operator.execute(context)

    return make


def test_one_batch_is_cancelled(submit, context, client) -> None:
    first, second = submit("a"), submit("b")
    assert CancelBatchOperator(task_id="cancel", batch_id=first).execute(context) == [first]
    assert client.get_batch(first).status == "cancelling"
    assert client.get_batch(second).status == "in_queue"


def test_cancelling_an_ended_batch_succeeds(submit, context, clock, logged) -> None:
    batch_id = submit()
    clock.advance(300)
    assert CancelBatchOperator(task_id="cancel", batch_id=batch_id).execute(context) == []
    assert f"batch {batch_id} has already ended: completed" in logged()


def test_an_immediately_cancelled_batch_is_returned(submit, context, emulator, logged) -> None:
    emulator.control.plan(cancel_seconds=0)
    batch_id = submit()
    assert CancelBatchOperator(task_id="cancel", batch_id=batch_id).execute(context) == [batch_id]
    assert "its answered requests are billed" in logged()


def test_an_unknown_batch_is_an_error(connection, context) -> None:
    with pytest.raises(NotFoundError, match="batch_unknown"):
        CancelBatchOperator(task_id="cancel", batch_id="batch_unknown").execute(context)


def test_without_batch_id_the_runs_batches_are_cancelled(
    submit, context, client: SiliconFlowClient, file_id, clock
) -> None:
    over = submit("early")
    clock.advance(300)
    ours = {submit("a"), submit("b")}
    context["ti"].run_id = "scheduled__2026-11-24"
    other_run = submit("a")
    context["ti"].run_id = "manual__2026-11-23T00:00:00+00:00"
    other_batch = client.create_batch(file_id).id
    assert set(CancelBatchOperator(task_id="cancel").execute(context)) == ours
    left = {batch.id: batch.status for batch in client.list_batches() if batch.id not in ours}
    assert left == {over: "completed", other_run: "in_queue", other_batch: "in_queue"}


def test_again_there_is_nothing_left_to_cancel(submit, context, logged) -> None:
    submit()
    CancelBatchOperator(task_id="cancel").execute(context)
    assert CancelBatchOperator(task_id="cancel").execute(context) == []
    assert "running batches of this DAG run: none" in logged()


@pytest.mark.parametrize("rendered", [None, ""])
def test_an_empty_batch_id_cancels_nothing(submit, context, client, rendered) -> None:
    """The XCom of a task that never submitted is None. It must not cancel batches of the run's other tasks."""
    batch_id = submit()
    operator = CancelBatchOperator(task_id="cancel", batch_id="{{ ti.xcom_pull('create') }}")
    operator.batch_id = rendered
    with pytest.raises(InvalidRequestError, match="give the id of a batch"):
        operator.execute(context)
    assert client.get_batch(batch_id).status == "in_queue"


def test_a_mapped_task_cannot_cancel_the_whole_run(submit, context, client) -> None:
    batch_id = submit()
    context["ti"].map_index = 0
    with pytest.raises(InvalidRequestError, match="use an unmapped task"):
        CancelBatchOperator(task_id="cancel").execute(context)
    assert client.get_batch(batch_id).status == "in_queue"


def test_another_deployment_on_the_account_is_left_alone(submit, context, client, deploy) -> None:
    """Staging and production may have DAG runs with equal ids."""
    deploy("production")
    batch_id = submit()
    deploy("staging")
    assert CancelBatchOperator(task_id="cancel").execute(context) == []
    assert client.get_batch(batch_id).status == "in_queue"


def test_without_a_deployment_the_whole_run_is_refused(submit, context, client, deploy) -> None:
    """Only the deployment distinguishes two Airflows on one account that have runs with this id."""
    deploy("")
    batch_id = submit()
    with pytest.raises(
        InvalidConnectionError,
        match=r"connection 'siliconflow_default' has no deployment.* nothing was cancelled: .*Set a deployment in .*"
        rf'{{"deployment": "production"}}.*with a different value in each Airflow; or give batch_id.*: {batch_id}$',
    ):
        CancelBatchOperator(task_id="cancel").execute(context)
    assert client.get_batch(batch_id).status == "in_queue"
    assert CancelBatchOperator(task_id="cancel", batch_id=batch_id).execute(context) == [batch_id]


def test_batches_without_deployment_are_named_not_cancelled(submit, context, client, deploy, logged) -> None:
    deploy("")
    unnamed = submit("a")
    deploy("production")
    ours = submit("b")
    assert CancelBatchOperator(task_id="cancel").execute(context) == [ours]
    assert client.get_batch(unnamed).status == "in_progress"
    assert (
        f"not cancelled: {unnamed}. They belong to a DAG run with this id, but were submitted without a deployment"
        in logged()
    )


@pytest.mark.parametrize(("seconds", "warns"), [(-1, False), (0, False), (60, True)])
def test_a_batch_older_than_the_run_warns(submit, context, clock, logged, seconds: int, warns: bool) -> None:
    """Either another Airflow has the same deployment, or the run was cleared."""
    batch_id = submit()
    context["dag_run"] = SimpleNamespace(start_date=pendulum.from_timestamp(int(clock.now) - 6 + seconds))
    assert CancelBatchOperator(task_id="cancel").execute(context) == [batch_id]
    assert (f"cancelling batch {batch_id}, created at" in logged()) is warns


def test_adding_a_deployment_resubmits_nothing(submit, context, client, deploy) -> None:
    deploy("")
    batch_id = submit()
    deploy("production")
    context["ti"].try_number += 1
    assert submit() == batch_id
    assert [batch.id for batch in client.list_batches()] == [batch_id]


def test_two_deployments_have_a_batch_each(submit, deploy) -> None:
    found = []
    for deployment in ("staging", "production", "staging"):
        deploy(deployment)
        found.append(submit())
    assert found[0] == found[2] != found[1]
