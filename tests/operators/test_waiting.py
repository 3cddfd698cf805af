from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from siliconflow_provider.api import clock as provider_clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import ServerError
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.emulator.server import Emulator
from siliconflow_provider.exceptions import BatchCancelledError, BatchTimeoutError, BatchWaitError
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.waiting.batch_wait import WaitEnd
from siliconflow_provider.waiting.events import to_event


@pytest.fixture
def create(connection: str, file_id: str) -> Callable[..., CreateBatchOperator]:
    """Return an operator that waits on the worker by default."""

    def make(**arguments: Any) -> CreateBatchOperator:
        return CreateBatchOperator(**{"task_id": "create", "input_file_id": file_id, "deferrable": False, **arguments})

    return make


@pytest.fixture
def statuses(client: SiliconFlowClient) -> Callable[[], list[str]]:
    """Return the status of each batch of the account."""
    return lambda: [batch.status for batch in client.list_batches()]


def cancels(emulator: Emulator) -> int:
    log = map(json.loads, (emulator.data_dir / "requests.log").read_text().splitlines())
    return sum(entry["event"] == "received" and entry["path"].endswith("/cancel") for entry in log)


class Terminated(BaseException):
    """The exception that Airflow 2 raises in its signal handler."""


def raise_(error: BaseException) -> None:
    raise error


class TestKillOnTheWorker:
    """Airflow 3 continues after its signal handler, Airflow 2 raises in it, an execution timeout raises before it."""

    @pytest.fixture(params=["goes on", "raises", "times out"])
    def kill(self, request: pytest.FixtureRequest) -> Callable[[CreateBatchOperator], None]:
        """Kill a task as Airflow does."""

        def goes_on(operator: CreateBatchOperator) -> None:
            operator.on_kill()

        def raises(operator: CreateBatchOperator) -> None:
            operator.on_kill()
            raise Terminated

        def times_out(operator: CreateBatchOperator) -> None:
            raise AirflowTaskTimeout

        return {"goes on": goes_on, "raises": raises, "times out": times_out}[request.param]

    def test_the_log_says_how_to_cancel(self, create, kill, context, clock, emulator, statuses, logged) -> None:
        operator = create()
        clock.after(20, lambda: kill(operator))
        with pytest.raises((BatchWaitError, Terminated, AirflowTaskTimeout)):
            operator.execute(context)
        assert "is still running; answered requests are billed.\nThe next attempt will resume it" in logged()
        assert (statuses(), cancels(emulator)) == (["in_progress"], 0)

    def test_with_cancel_on_kill_the_batch_is_cancelled(
        self, create, kill, context, clock, emulator, statuses, logged
    ) -> None:
        operator = create(cancel_on_kill=True)
        clock.after(20, lambda: kill(operator))
        with pytest.raises((BatchWaitError, Terminated, AirflowTaskTimeout)):
            operator.execute(context)
        assert "is cancelling; answered requests are billed" in logged()
        assert (statuses(), cancels(emulator)) == (["cancelling"], 1)

    def test_only_clearing_resubmits_a_cancelled_batch(self, create, kill, context, clock, statuses, run) -> None:
        operator = create(cancel_on_kill=True)
        clock.after(20, lambda: kill(operator))
        with pytest.raises((BatchWaitError, Terminated, AirflowTaskTimeout)):
            operator.execute(context)
        with pytest.raises(BatchCancelledError, match=r"clearing it submits \(and pays for\) a new batch"):
            run(create)
        assert statuses() == ["cancelled"]
        context["ti"].clear()
        run(create)
        assert statuses() == ["completed", "cancelled"]


def test_a_kill_before_waiting_ends_it_immediately(create, context, clock, statuses) -> None:
    started = clock.now
    operator = create(cancel_on_kill=True)
    operator.on_kill()
    with pytest.raises(BatchWaitError, match="killed while waiting"):
        operator.execute(context)
    assert (statuses(), clock.now - started) == (["cancelling"], LIST_LAG_SECONDS + 10)


def test_a_kill_before_deferring_creates_no_trigger(create, context, statuses) -> None:
    operator = create(deferrable=True, cancel_on_kill=True)
    operator.on_kill()
    with pytest.raises(BatchWaitError, match="killed before waiting for batch batch_"):
        operator.execute(context)
    assert statuses() == ["cancelling"]


def test_a_failed_cancel_names_the_running_batch(create, context, clock, emulator, logged) -> None:
    operator = create(cancel_on_kill=True)
    clock.after(20, lambda: (operator.on_kill(), emulator.stop()))
    with pytest.raises(BatchWaitError):
        operator.execute(context)
    lines = logged()
    assert "task was killed: could not cancel batch batch_" in lines
    assert "no connection (ConnectionRefusedError" in lines
    assert "Running batches are billed.\nTo cancel: " in lines


def test_a_batch_that_ended_meanwhile_is_not_cancelled(create, context, clock, emulator, logged, client) -> None:
    operator = create(cancel_on_kill=True, poll_interval=300)
    clock.after(200, operator.on_kill)
    with pytest.raises(BatchWaitError):
        operator.execute(context)
    assert "is completed; answered requests are billed" in logged()
    assert cancels(emulator) == 0


class TestCancelOnTimeout:
    @pytest.fixture(params=[True, False], ids=["deferred", "on the worker"])
    def overdue(self, request: pytest.FixtureRequest, create) -> Callable[..., CreateBatchOperator]:
        """Return an operator whose deadline is before the end of the batch."""
        return lambda **arguments: create(
            **{"deferrable": request.param, "timeout": 60, "cancel_on_timeout": True, **arguments}
        )

    def test_the_batch_is_cancelled_without_a_retry(self, overdue, run, statuses) -> None:
        with pytest.raises(
            BatchCancelledError,
            match=r"batch \w+ was still running at the deadline, .* UTC: cancelling, 5 of 12 requests done; "
            r"cancel_on_timeout cancelled it.\nAnswered requests are billed, and their answers are kept for 30 "
            r"days: to write them, use DownloadResultsOperator\(batch_id='\w+'\)\.\nAirflow does not retry this "
            r"task; clearing",
        ) as failure:
            run(overdue)
        assert isinstance(failure.value, AirflowFailException)
        assert statuses() == ["cancelling"]

    def test_the_next_attempt_submits_nothing(self, overdue, run, statuses) -> None:
        with pytest.raises(BatchCancelledError):
            run(overdue)
        with pytest.raises(BatchCancelledError):
            run(overdue)
        assert len(statuses()) == 1

    def test_a_batch_completing_at_cancellation_succeeds(self, overdue, run, client, monkeypatch, clock) -> None:
        """It completes between the last poll and the cancel."""
        cancel = SiliconFlowClient.cancel_batch

        def late_cancel(self: SiliconFlowClient, batch_id: str) -> Any:
            clock.advance(200)
            return cancel(self, batch_id)

        monkeypatch.setattr(SiliconFlowClient, "cancel_batch", late_cancel)
        assert client.get_batch(run(overdue)).status == "completed"

    def test_when_it_cannot_be_cancelled_a_retry_may(self, overdue, run, monkeypatch) -> None:
        def lost(self: SiliconFlowClient, batch_id: str) -> Any:
            raise ServerError("POST was refused: bad gateway")

        with monkeypatch.context() as patch:
            patch.setattr(SiliconFlowClient, "cancel_batch", lost)
            with pytest.raises(
                BatchWaitError,
                match=r"(?s)was still running at the deadline.*\(last known status; cancel_on_timeout could not "
                r"cancel: POST was refused: bad gateway.*still running",
            ) as failure:
                run(overdue)
        assert not isinstance(failure.value, AirflowFailException)
        with pytest.raises(BatchCancelledError):
            run(overdue)

    def test_a_batch_ending_in_time_is_unchanged(self, overdue, run, statuses) -> None:
        run(lambda: overdue(timeout=timedelta(hours=1)))
        assert statuses() == ["completed"]


@pytest.fixture(params=[True, False], ids=["deferred", "on the worker"])
def timed(request: pytest.FixtureRequest, create) -> Callable[..., CreateBatchOperator]:
    """Return an operator, deferrable or not."""
    return lambda **arguments: create(**{"deferrable": request.param, **arguments})


class TestTimeout:
    def test_no_retry_with_the_same_deadline(self, timed, run, statuses) -> None:
        with pytest.raises(BatchTimeoutError, match="set a timeout of more than 1m 0s, or none") as failure:
            run(lambda: timed(timeout=60))
        assert isinstance(failure.value, AirflowFailException)
        assert statuses() == ["in_progress"]

    def test_clearing_with_a_larger_timeout_continues(self, timed, run, context, statuses) -> None:
        with pytest.raises(BatchTimeoutError):
            run(lambda: timed(timeout=60))
        context["ti"].clear()
        run(lambda: timed(timeout=600))
        assert statuses() == ["completed"]

    def test_an_unreadable_batch_at_the_deadline_may_retry(self, timed, run, clock, emulator, restarted) -> None:
        """Therefore a retry may succeed."""
        clock.after(30, emulator.stop)
        with pytest.raises(BatchWaitError, match=r"\(last known status; ") as failure:
            run(lambda: timed(timeout=7200))
        assert not isinstance(failure.value, AirflowFailException)
        with restarted:
            run(lambda: timed(timeout=7200))


class TestClocks:
    """The clocks of worker and triggerer may be hours off: the service's clock decides."""

    @pytest.fixture(params=[-5, 5], ids=["behind", "ahead"])
    def skewed(self, request: pytest.FixtureRequest, held_time, monkeypatch) -> None:
        """Set this machine's clock hours off."""
        hours = request.param
        monkeypatch.setattr(provider_clock, "now", lambda: pendulum.from_timestamp(held_time.now).add(hours=hours))

    def test_a_new_batch_is_not_cancelled(self, timed, run, statuses, connection, skewed) -> None:
        run(lambda: timed(timeout=3600, cancel_on_timeout=True))
        assert statuses() == ["completed"]

    def test_a_timeout_has_the_given_length(self, timed, run, clock, connection, skewed) -> None:
        started = clock.now
        with pytest.raises(BatchTimeoutError):
            run(lambda: timed(timeout=60))
        # The service's times are whole seconds.
        assert 59 <= clock.now - started <= 62

    def test_a_trigger_without_an_answer_is_not_believed(self, create, run, context, statuses, client) -> None:
        batch = client.get_batch(run(lambda: create(wait_for_completion=False)))
        end = WaitEnd(batch.id, "timeout", batch, "no answer", client.now().add(hours=1).to_datetime_string())
        operator = create(deferrable=True, timeout=3600, cancel_on_timeout=True)
        with pytest.raises(TaskDeferred) as deferral:
            operator.execute_complete(context, to_event([end]))
        assert deferral.value.trigger.batch_ids == [batch.id]
        assert statuses() != ["cancelling"]


class TestExecutionTimeout:
    """Airflow 2 ends a deferral at `execution_timeout`; on Airflow 3 the trigger does it."""

    @pytest.fixture
    def limited(self, create) -> Callable[..., CreateBatchOperator]:
        """Return an operator whose `execution_timeout` ends before its batch."""
        return lambda **arguments: create(
            **{"deferrable": True, "execution_timeout": timedelta(seconds=60), **arguments}
        )

    @pytest.fixture
    def end(self, run) -> Callable[[Any], str]:
        """Run a task; return `success` if Airflow itself would have ended it before."""

        def end_of(make: Callable[[], CreateBatchOperator]) -> str:
            try:
                run(make)
            except AirflowTaskTimeout as error:
                return str(error)
            return "success"

        return end_of

    @pytest.mark.parametrize(("cancel_on_kill", "status"), [(False, "in_progress"), (True, "cancelling")])
    def test_it_ends_the_wait_and_kills(self, limited, end, statuses, logged, cancel_on_kill, status) -> None:
        said = end(lambda: limited(cancel_on_kill=cancel_on_kill))
        if not AIRFLOW_V_3_0_PLUS:
            assert (said, statuses()) == ("success", ["completed"])
            return
        assert "execution_timeout=0:01:00 ended at 2027-01-15 08:01:" in said
        assert "UTC, before batch batch_" in said
        assert statuses() == [status]
        assert "task was killed" in logged()

    def test_a_retry_resumes_the_batch(self, limited, end, statuses) -> None:
        assert (end(limited) == "success") is not AIRFLOW_V_3_0_PLUS
        assert end(limited) == "success"
        assert statuses() == ["completed"]

    def test_the_earlier_of_two_deadlines_is_named(self, limited, run) -> None:
        with pytest.raises(BatchTimeoutError):
            run(lambda: limited(timeout=30))

    def test_it_counts_from_the_tasks_start(self, limited, context, clock) -> None:
        context["ti"].start_date = pendulum.from_timestamp(clock.now - 20)
        with pytest.raises(TaskDeferred) as deferral:
            limited().execute(context)
        stop_at = deferral.value.trigger.stop_at
        if not AIRFLOW_V_3_0_PLUS:
            assert stop_at is None
            return
        # The task has been running for some seconds before it waits.
        assert stop_at.timestamp() == context["ti"].start_date.timestamp() + 60
        assert deferral.value.timeout < timedelta(minutes=11)
