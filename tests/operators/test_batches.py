"""CreateBatchOperator: submitting, waiting, retries and concurrent attempts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import (
    BadRequestError,
    InvalidRequestError,
)
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import EmulatorOptions
from siliconflow_provider.exceptions import (
    BatchCancelledError,
    BatchExpiredError,
    BatchFailedError,
    BatchTimeoutError,
    BatchWaitError,
)
from siliconflow_provider.links import BatchesLink
from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator


@pytest.fixture(params=[True, False], ids=["deferred", "on the worker"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def create(connection: str, file_id: str, deferrable: bool) -> Callable[..., CreateBatchOperator]:
    """Return the operator, deferrable and not."""

    def make(**arguments: Any) -> CreateBatchOperator:
        return CreateBatchOperator(
            **{"task_id": "create", "input_file_id": file_id, "deferrable": deferrable, **arguments}
        )

    return make


def batches(client: SiliconFlowClient) -> list[str]:
    return [batch.id for batch in client.list_batches()]


def statuses(client: SiliconFlowClient) -> list[str]:
    return [batch.status for batch in client.list_batches()]


class TestCreateBatch:
    def test_a_completed_batch_is_a_success_with_timing(self, create, run, context, client, clock) -> None:
        batch_id = run(create)
        assert batches(client) == [batch_id]
        assert context["ti"].xcoms["batch_id"] == batch_id
        timing = context["ti"].xcoms["timing"]
        assert timing["created_at"] == "2027-01-15T08:00:00Z"
        assert (timing["queued_seconds"], timing["running_seconds"], timing["total_seconds"]) == (10, 100, 115)

    def test_the_service_gets_the_tasks_arguments(self, create, run, client) -> None:
        batch = client.get_batch(
            run(lambda: create(completion_window=timedelta(hours=48), metadata={"team": "evals"}, model="Qwen/QwQ-32B"))
        )
        assert batch.completion_window == "48h"
        assert batch.metadata["team"] == "evals"
        assert batch.metadata["airflow_task"] == "nightly/create/manual__2026-11-23T00:00:00+00:00/-1"

    def test_batch_id_and_link_precede_the_wait(self, create, context, deferrable, monkeypatch) -> None:
        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(CreateBatchOperator, "wait_for_batches", stop)
        with pytest.raises(KeyboardInterrupt):
            create().execute(context)
        assert context["ti"].xcoms["batch_id"].startswith("batch_")
        assert context["ti"].xcoms[BatchesLink.xcom_key] == ""

    def test_without_waiting_it_returns_at_once(self, create, run, client, clock) -> None:
        started = clock.now
        batch_id = run(lambda: create(wait_for_completion=False))
        assert client.get_batch(batch_id).status == "in_queue"
        assert clock.now - started == LIST_LAG_SECONDS

    def test_an_attempt_resumes_an_earlier_attempts_batch(self, create, run, client) -> None:
        first = run(lambda: create(wait_for_completion=False))
        assert run(create) == first
        assert run(create) == first
        assert batches(client) == [first]

    def test_another_submission_key_creates_another_batch(self, create, run, client) -> None:
        first = run(lambda: create(wait_for_completion=False))
        assert run(lambda: create(submission_key="again")) != first
        assert len(batches(client)) == 2

    def test_another_map_index_creates_another_batch(self, create, run, context, client) -> None:
        first = run(lambda: create(wait_for_completion=False))
        context["ti"].map_index = 1
        assert run(lambda: create(wait_for_completion=False)) != first

    def test_some_failed_requests_do_not_fail_the_task(self, create, run, client, upload, jsonl, line) -> None:
        lines = [line("good", "1 + 1"), line("bad", "1 + 1", thinking_budget=1)]
        file_id = upload(jsonl(lines))
        batch = client.get_batch(run(lambda: create(input_file_id=file_id)))
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)

    def test_a_failed_batch_raises_the_services_errors(self, create, run, client, upload, jsonl, line) -> None:
        lines = [line("a", "1 + 1"), line("b", "1 + 1", model="Qwen/QwQ-32B")]
        file_id = upload(jsonl(lines))
        with pytest.raises(BatchFailedError, match=r"batch_\w+ failed.*\nErrors of the service: .*line 2") as failure:
            run(lambda: create(input_file_id=file_id))
        assert isinstance(failure.value, AirflowFailException)

    def test_a_cancelled_batch_raises_with_answer_counts(self, create, run, context, client, clock) -> None:
        clock.after(60, lambda: client.cancel_batch(batches(client)[0]))
        with pytest.raises(
            BatchCancelledError, match=r"\d of 12 requests answered, 0 failed, \d not run.\nAnswered requests"
        ):
            run(create)
        assert context["ti"].xcoms["timing"]["cancelled_at"] is not None

    def test_a_final_status_is_repeated_until_cleared(self, create, run, context, client) -> None:
        """The worker was killed before it raised the error. A retry must not resubmit; clearing may."""
        first = run(lambda: create(wait_for_completion=False))
        client.cancel_batch(first)
        with pytest.raises(BatchCancelledError):
            run(create)
        with pytest.raises(BatchCancelledError):
            run(create)
        context["ti"].clear()
        assert run(create) != first

    def test_the_deadline_error_names_the_running_batch(self, create, run, client) -> None:
        with pytest.raises(
            BatchTimeoutError,
            match=r"was still running at the deadline, 2027-01-15 08:01:00 UTC: in_progress, 5 of 12 requests done.\n"
            r"It is still running, and answered requests are billed.\nAirflow does not retry this task, since the "
            r"timeout counts from the batch's creation.\nTo continue waiting, set a timeout of more than 1m 0s, or "
            r"none \(waits until 2027-01-16 09:00:00 UTC\), and clear the task.\n"
            r"To cancel: python -m siliconflow_provider cancel batch_\w+ --conn-id siliconflow_default",
        ) as failure:
            run(lambda: create(timeout=60))
        assert isinstance(failure.value, AirflowFailException)
        assert not client.get_batch(batches(client)[0]).is_terminal

    def test_an_ended_batch_counts_after_the_deadline(self, create, run, clock) -> None:
        """The previous attempt was killed. At this attempt's first poll, both the timeout and the batch have ended."""
        first = run(lambda: create(wait_for_completion=False))
        clock.advance(7200)
        assert run(lambda: create(timeout=timedelta(hours=1))) == first

    def test_an_hours_outage_does_not_end_the_wait(self, create, run, emulator, restarted, clock) -> None:
        first = run(lambda: create(wait_for_completion=False))
        clock.after(30, emulator.stop)
        clock.after(3600, restarted.start)
        assert run(create) == first
        assert clock.alarms == []

    def test_a_rejected_key_ends_the_wait(self, create, run, connection, monkeypatch, clock) -> None:
        first = run(lambda: create(wait_for_completion=False))
        operator = create()
        monkeypatch.setattr(type(operator), "execute", lambda self, context: self.wait_for_batches(context, [batch]))
        batch = operator.hook.get_conn().get_batch(first)
        value = json.loads(os.environ["AIRFLOW_CONN_SILICONFLOW_DEFAULT"]) | {"password": "sk-revoked"}
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(value))
        started = clock.now
        with pytest.raises(
            BatchWaitError, match=r"(?s)gave up polling.*Invalid token.*check the API key.*may still be running"
        ) as failure:
            run(create)
        assert clock.now - started >= 3600
        assert "sk-revoked" not in str(failure.value)

    @pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"waits": [{}]}])
    def test_an_unexpected_event_is_no_success(self, create, context, event) -> None:
        with pytest.raises(
            BatchWaitError, match=r"unexpected trigger event: .*\nThe batches may still be running; a retry"
        ):
            create().execute_complete(context, event=event)

    def test_a_deferral_ends_a_little_after_the_deadline(self, create, context) -> None:
        with pytest.raises(TaskDeferred) as deferral:
            create(deferrable=True, timeout=3600).execute(context)
        assert deferral.value.trigger.deadline == pendulum.datetime(2027, 1, 15, 9)
        # Airflow 3 can send a plain timedelta to its supervisor, but none of pendulum's types.
        assert type(deferral.value.timeout) is timedelta
        assert timedelta(hours=1) < deferral.value.timeout < timedelta(hours=2)

    @pytest.mark.parametrize("arguments", [{"poll_interval": 0}, {"timeout": 0}, {"timeout": timedelta(-1)}])
    def test_invalid_wait_arguments_fail_at_parse_time(self, arguments) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} is .*: give "):
            CreateBatchOperator(task_id="create", input_file_id="file-1", **arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"completion_window": "12h"}, "completion_window '12h' is not accepted by the service: give 24 to 336"),
            ({"endpoint": "/v1/embeddings"}, "the service has no batches for endpoint '/v1/embeddings'"),
            ({"metadata": {"airflow_key": "x"}}, "metadata has 'airflow_key'"),
            ({"metadata": {str(number): "" for number in range(12)}}, "12 pairs.* at most 11"),
            ({"input_file_id": ""}, "input_file_id is ''"),
        ],
    )
    def test_invalid_arguments_are_not_sent(self, create, run, client, arguments, message) -> None:
        with pytest.raises(InvalidRequestError, match=message):
            run(lambda: create(**arguments))
        assert batches(client) == []

    def test_an_unknown_file_is_the_services_to_refuse(self, create, run) -> None:
        with pytest.raises(BadRequestError, match="file-unknown"):
            run(lambda: create(input_file_id="file-unknown"))


class TestAttemptsAtOnce:
    def test_a_lost_create_costs_one_batch(self, create, run, client, emulator) -> None:
        emulator.control.fault("POST /batches", kind="lost_answer")
        batch_id = run(create)
        assert batches(client) == [batch_id]
        assert emulator.control.executions().most == 1

    def test_batches_are_found_whatever_the_task_name(self, create, run, context, client) -> None:
        ti = context["ti"]
        ti.dag_id, ti.task_id, ti.run_id = "日" * 83, "Ü" * 125, "r" * 250
        first = run(lambda: create(wait_for_completion=False))
        assert run(lambda: create(wait_for_completion=False)) == first
        label = client.get_batch(first).metadata["airflow_task"]
        assert label.startswith("日" * 83 + "/Ü")
        assert 510 <= len(label.encode()) <= 512
        ti.run_id = "r" * 249 + "s"
        assert run(lambda: create(wait_for_completion=False)) != first

    def test_two_deployments_have_their_own_batches(self, create, run, emulator, client, monkeypatch) -> None:
        def run_in(deployment: str) -> str:
            value = emulator.airflow_connection | {"extra": {"deployment": deployment}}
            monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(value))
            return run(lambda: create(wait_for_completion=False))

        production, staging = run_in("production"), run_in("staging")
        assert (run_in("production"), run_in("staging")) == (production, staging)
        assert len({production, staging}) == len(batches(client)) == 2

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=8)])
    def test_an_older_batch_found_before_waiting_wins(self, create, run, context, client, clock) -> None:
        older = run(lambda: create(wait_for_completion=False))
        context["ti"].xcoms.clear()
        assert run(create) == context["ti"].xcoms["batch_id"] == older
        assert statuses(client) == ["cancelled", "completed"]

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=40)])
    def test_an_older_batch_found_after_waiting_wins(self, create, run, context, client) -> None:
        """Both batches are billed then, and every attempt returns the same one."""
        older = run(lambda: create(wait_for_completion=False))
        context["ti"].xcoms.clear()
        assert run(create) == context["ti"].xcoms["batch_id"] == older
        assert statuses(client) == ["completed", "completed"]
        assert context["ti"].xcoms["timing"]["created_at"] == "2027-01-15T08:00:00Z"

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=40)])
    def test_a_running_duplicate_is_cancelled_after_waiting(self, create, run, client, emulator) -> None:
        emulator.control.plan(run_seconds=10)
        emulator.control.plan(run_seconds=3600)
        older = run(lambda: create(wait_for_completion=False))
        assert run(lambda: create(timeout=60)) == older
        assert statuses(client) == ["cancelling", "completed"]

    @pytest.mark.parametrize("forms", [Forms(list_lag_seconds=40)])
    def test_a_running_older_batch_is_awaited_too(self, create, run, client, emulator) -> None:
        emulator.control.plan(run_seconds=3600)
        older = run(lambda: create(wait_for_completion=False))
        assert run(create) == older
        assert statuses(client) == ["completed", "completed"]

    def test_a_wait_for_a_cancelled_duplicate_changes_batch(self, create, run, context, client, clock, file_id) -> None:
        mine = run(lambda: create(wait_for_completion=False))
        made = [mine]

        def another_attempt() -> None:
            clock.now -= 45
            while min(made) == mine:
                made.append(client.create_batch(file_id, metadata=client.get_batch(mine).metadata).id)
            clock.now += 45
            run(lambda: create(wait_for_completion=False))

        clock.after(30, another_attempt)
        assert run(create) == made[-1] == context["ti"].xcoms["batch_id"]
        assert client.get_batch(mine).status == "cancelled"

    def test_a_failing_search_after_waiting_only_warns(self, create, run, emulator, caplog) -> None:
        emulator.control.fault("GET /batches", status=403, nth=3)
        run(create)
        assert "may be missed: GET /batches at 127.0.0.1" in caplog.text


class TestExpiredBatch:
    @pytest.fixture
    def options(self, tmp_path: Path) -> EmulatorOptions:
        """The batch would run for two days, but its window is one day."""
        return EmulatorOptions(data_dir=tmp_path / "data", queue_seconds=10, run_seconds=172_800)

    def test_it_fails_and_its_answers_are_available(self, create, run, context, connection, tmp_path) -> None:
        with pytest.raises(
            BatchExpiredError,
            match=r"(?s)expired after 1d 0h 0m: 5 of 12 .*7 failed.*Answered requests are billed.*clearing",
        ):
            run(lambda: create(poll_interval=3600))
        batch_id = context["ti"].xcoms["batch_id"]
        download = DownloadResultsOperator(task_id="download", batch_id=batch_id, output_path=str(tmp_path / "out"))
        assert download.execute(context)["counts"] == {"succeeded": 5, "expired": 7}
