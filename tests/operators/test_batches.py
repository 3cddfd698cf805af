from __future__ import annotations

import json
import os
import shutil
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
    NotFoundError,
    SiliconFlowError,
    UnreadableAnswerError,
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
    OutputPathError,
)
from siliconflow_provider.links import BatchesLink
from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.outputs.ownership import OutputDirectory
from siliconflow_provider.results import read_results


@pytest.fixture(params=[True, False], ids=["deferred", "on the worker"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def create(connection: str, file_id: str, deferrable: bool) -> Callable[..., CreateBatchOperator]:
    """Makes the operator, in both ways of waiting."""

    def make(**arguments: Any) -> CreateBatchOperator:
        return CreateBatchOperator(
            **{"task_id": "create", "input_file_id": file_id, "deferrable": deferrable, **arguments}
        )

    return make


def batches(client: SiliconFlowClient) -> list[str]:
    return [each.id for each in client.list_batches()]


def statuses(client: SiliconFlowClient) -> list[str]:
    return [each.status for each in client.list_batches()]


class TestCreateBatch:
    def test_a_completed_batch_is_a_success_with_timing(self, create, run, context, client, clock) -> None:
        batch_id = run(create)
        assert batches(client) == [batch_id]
        assert context["ti"].xcoms["batch_id"] == batch_id
        timing = context["ti"].xcoms["timing"]
        assert timing["created_at"] == "2027-01-15T08:00:00Z"
        assert (timing["queued_seconds"], timing["running_seconds"], timing["total_seconds"]) == (10, 100, 115)

    def test_the_service_gets_what_the_task_says(self, create, run, client) -> None:
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
        assert context["ti"].xcoms[BatchesLink.xcom_key] == "https://cloud.siliconflow.com/me/batches"

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
        with pytest.raises(BatchFailedError, match=r"batch_\w+ failed.*errors of the service: .*line 2") as failure:
            run(lambda: create(input_file_id=file_id))
        assert isinstance(failure.value, AirflowFailException)

    def test_a_cancelled_batch_raises_with_answer_counts(self, create, run, context, client, clock) -> None:
        clock.after(60, lambda: client.cancel_batch(batches(client)[0]))
        with pytest.raises(BatchCancelledError, match=r"\d of 12 requests answered, 0 failed, \d not run.*\d answers"):
            run(create)
        assert context["ti"].xcoms["timing"]["cancelled_at"] is not None

    def test_a_final_status_is_repeated_until_cleared(self, create, run, context, client) -> None:
        """A worker that died between the verdict and its error must not buy again on its retry; a clear may."""
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
            match=r"was still running at the deadline, 2027-01-15 08:01:00 UTC: in_progress, 5 of 12 requests done. "
            r"It is still running, and answered requests are billed. Airflow does not retry this task, since the timeout counts "
            r"from the batch's creation. To continue waiting, set a timeout of more than 1m 0s, or none \(waits until "
            r"2027-01-16 09:00:00 UTC, and clear the task. To cancel: .*cancel_batch",
        ) as failure:
            run(lambda: create(timeout=60))
        assert isinstance(failure.value, AirflowFailException)
        assert not client.get_batch(batches(client)[0]).is_terminal

    def test_an_ended_batch_counts_after_the_deadline(self, create, run, clock) -> None:
        """The attempt before died; when this one looks, the timeout is over, and the batch is too."""
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
            BatchWaitError, match=r"gave up polling.*Invalid token.*check the API key.*may still be running"
        ) as failure:
            run(create)
        assert clock.now - started >= 3600
        assert "sk-revoked" not in str(failure.value)

    @pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"waits": [{}]}])
    def test_an_event_that_says_nothing_is_no_success(self, create, context, event) -> None:
        with pytest.raises(BatchWaitError, match="unexpected trigger event: .*The batches are still running; a retry"):
            create().execute_complete(context, event=event)

    def test_a_deferral_ends_a_little_after_the_deadline(self, create, context) -> None:
        with pytest.raises(TaskDeferred) as deferral:
            create(deferrable=True, timeout=3600).execute(context)
        assert deferral.value.trigger.deadline == pendulum.datetime(2027, 1, 15, 9)
        # Airflow 3 can send a plain timedelta to its supervisor, none of pendulum's kinds.
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
            ({"endpoint": "/v1/embeddings"}, "endpoint '/v1/embeddings' has no batches"),
            ({"metadata": {"airflow_key": "x"}}, "metadata has 'airflow_key'"),
            ({"metadata": {str(each): "" for each in range(12)}}, "12 pairs.* at most 11"),
            ({"input_file_id": ""}, "input_file_id is ''"),
        ],
    )
    def test_what_the_service_would_refuse_is_not_sent(self, create, run, client, arguments, message) -> None:
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
        """Then both have been paid for, and every attempt hands on the same one."""
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
        assert (
            "could not list all batches, to look for one of another attempt: GET /batches at 127.0.0.1" in caplog.text
        )


class TestDownloadResults:
    @pytest.fixture
    def download(self, connection: str, tmp_path: Path) -> Callable[..., DownloadResultsOperator]:
        """Makes the operator."""

        def make(batch_id: str, output_path: str = f"{tmp_path}/out") -> DownloadResultsOperator:
            return DownloadResultsOperator(task_id="download", batch_id=batch_id, output_path=output_path)

        return make

    def test_each_request_has_a_row(self, download, client, upload, jsonl, line, context, clock, tmp_path) -> None:
        lines = [*(line(f"r{each}", f"{each} + 1") for each in range(5)), line("bad", "1", thinking_budget=1)]
        batch = client.create_batch(upload(jsonl(lines)))
        clock.advance(200)
        summary = download(batch.id).execute(context)
        rows = read(summary["results_path"])
        assert [(each["index"], each["custom_id"], each["content"], each["round"]) for each in rows] == [
            *((each, f"r{each}", str(each + 1), 1) for each in range(5)),
            (5, "bad", None, 1),
        ]
        assert summary["counts"] == {"succeeded": 5, "failed": 1}
        (bad,) = [each for each in rows if each["status"] == "failed"]
        assert "thinking_budget" in bad["error"]["message"]
        assert {each["batch_id"] for each in rows} == {batch.id}

    def test_the_manifest_reports_the_batch(self, download, client, file_id, context, clock) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        summary = download(batch.id).execute(context)
        manifest = json.loads(local(summary["manifest_path"]).read_text())
        assert manifest["rows"] == 12
        assert manifest["counts"] == {"succeeded": 12}
        assert manifest["tokens"] == summary["tokens"]
        assert manifest["tokens"]["completion"] > 0
        assert manifest["batches"][0]["timing"]["total_seconds"] == 115
        assert manifest["paths"]["results"] == summary["results_path"]

    def test_shortened_errors_are_complete_in_a_file(self, download, client, file_id, context, clock, control) -> None:
        control.plan(failing={"positions": [1, 2], "message": "m" * 100_000}, times=1)
        batch = client.create_batch(file_id)
        clock.advance(200)
        manifest = json.loads(local(download(batch.id).execute(context)["manifest_path"]).read_text())
        assert manifest["errors"][0]["message"] == "m" * 2_000 + "... (98,000 more characters)"
        whole = [json.loads(each) for each in local(manifest["paths"]["errors"]).read_text().splitlines()]
        assert [(each["batch_id"], each["message"]) for each in whole] == [(batch.id, "m" * 100_000)] * 2
        assert manifest["paths"]["errors"].endswith("/out/_siliconflow/errors.jsonl")

    def test_a_running_batch_is_refused(self, download, client, file_id, context, tmp_path) -> None:
        batch = client.create_batch(file_id)
        with pytest.raises(BatchWaitError, match=f"{batch.id} is still in_queue.*after a task that waits"):
            download(batch.id).execute(context)
        assert not (tmp_path / "out").exists()

    def test_an_unknown_batch_is_named(self, download, context) -> None:
        with pytest.raises(NotFoundError, match=r"GET /batches/batch_unknown at \S+ was refused.*check the id"):
            download("batch_unknown").execute(context)

    def test_a_second_run_replaces_the_first(self, download, client, file_id, context, clock, tmp_path) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        assert download(batch.id).execute(context) == download(batch.id).execute(context)
        assert {each.name for each in (tmp_path / "out").iterdir()} == {
            "_siliconflow",
            "manifest.json",
            "results.jsonl",
        }

    def test_a_download_that_fails_leaves_what_was_there(
        self, download, client, file_id, context, clock, emulator, tmp_path
    ) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        download(batch.id).execute(context)
        out = tmp_path / "out"
        earlier = {each: each.read_bytes() for each in out.rglob("*") if each.is_file()}
        emulator.control.fault("GET /results/{id}", every=1, status=404)
        with pytest.raises(SiliconFlowError):
            download(batch.id).execute(context)
        assert {each: each.read_bytes() for each in out.rglob("*") if each.is_file()} == earlier

    def test_mapped_tasks_do_not_share_a_path(self, download, client, file_id, context, clock, tmp_path) -> None:
        batches = [client.create_batch(file_id) for _ in range(2)]
        clock.advance(200)
        context["ti"].map_index = 0
        summary = download(batches[0].id).execute(context)
        written = local(summary["results_path"]).read_bytes()
        context["ti"].map_index = 1
        # Nor does the same batch, whose rows would be the same.
        for batch in batches:
            with pytest.raises(OutputPathError, match=r"another task instance \(nightly/.*/0\).*{{ ti\.map_index }}"):
                download(batch.id).execute(context)
        assert local(summary["results_path"]).read_bytes() == written
        assert download(batches[1].id, f"{tmp_path}/other").execute(context)["rows"] == 12

    def test_of_two_mapped_tasks_at_once_one_fails(
        self, download, client, file_id, context, clock, emulator, tmp_path, object_store, monkeypatch
    ) -> None:
        """The other one begins and ends while the first has fetched its results, and not written them."""
        batches = [client.create_batch(file_id).id for _ in range(2)]
        clock.advance(200)
        paths = [f"{tmp_path}/out", f"{object_store}/{tmp_path.name}"]
        original, done = OutputDirectory.claim, []

        def claim_late(self: OutputDirectory, **options: Any) -> None:
            if not done:
                context["ti"].map_index = 1
                done.append(None)
                done.append(download(batches[1], path).execute(context))
                context["ti"].map_index = 0
            original(self, **options)

        monkeypatch.setattr(OutputDirectory, "claim", claim_late)
        for path in paths:
            done.clear()
            context["ti"].map_index = 0
            with pytest.raises(OutputPathError, match=r"another task instance \(nightly/.*/1\)"):
                download(batches[0], path).execute(context)
            assert {row.batch_id for row in read_results(done[1])} == {batches[1]}

    def test_of_two_unnoticed_writers_the_first_fails(
        self, download, client, file_id, context, clock, tmp_path, monkeypatch
    ) -> None:
        """Both have found the directory free; the later one's name stands in it."""
        batch = client.create_batch(file_id)
        clock.advance(200)
        owner = tmp_path / "out" / "_siliconflow" / "owner.json"

        def take_over(self: OutputDirectory, **options: Any) -> None:
            original(self, **options)
            owner.write_text('{"task": "nightly/create/run/1"}')

        original = OutputDirectory.claim
        monkeypatch.setattr(OutputDirectory, "claim", take_over)
        with pytest.raises(OutputPathError, match=r"\(nightly/create/run/1\)"):
            download(batch.id).execute(context)
        assert not (tmp_path / "out" / "results.jsonl").exists()

    @pytest.mark.parametrize("name", ["results.jsonl", "manifest.json"])
    def test_a_file_of_the_user_is_not_overwritten(
        self, download, client, file_id, context, clock, tmp_path, name: str
    ) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(OutputPathError, match=rf"out/{name} exists, but .* Move it away, or set another"):
            download(batch.id).execute(context)
        assert [each.name for each in (tmp_path / "out").iterdir()] == [name]
        assert (tmp_path / "out" / name).read_text() == "mine"

    def test_results_that_another_has_changed_are_not_overwritten(
        self, download, client, file_id, context, clock, tmp_path
    ) -> None:
        batch = client.create_batch(file_id)
        clock.advance(200)
        path = local(download(batch.id).execute(context)["results_path"])
        path.write_text("scored")
        with pytest.raises(OutputPathError, match=r"results\.jsonl exists, but this task"):
            download(batch.id).execute(context)
        assert path.read_text() == "scored"

    def test_files_of_an_earlier_version_are_replaced(
        self, download, client, file_id, context, clock, tmp_path
    ) -> None:
        batches = [client.create_batch(file_id).id for _ in range(2)]
        clock.advance(200)
        summary = download(batches[0]).execute(context)
        shutil.rmtree(tmp_path / "out" / "_siliconflow")
        with pytest.raises(OutputPathError, match=r"results\.jsonl exists"):
            download(batches[1]).execute(context)
        assert download(batches[0]).execute(context) == summary

    def test_the_results_of_the_batch_before_are_kept(
        self, download, client, file_id, context, clock, tmp_path
    ) -> None:
        """As when the task that submitted it was cleared, and has bought another one."""
        batches = [client.create_batch(file_id).id for _ in range(2)]
        clock.advance(200)
        job_ids = []
        for batch_id in (*batches, batches[1]):
            summary = download(batch_id).execute(context)
            job_ids.append(json.loads(local(summary["manifest_path"]).read_text())["job_id"])
        assert {row.batch_id for row in read_results(summary)} == {batches[1]}
        assert job_ids[1] == job_ids[2] != job_ids[0]
        replaced = tmp_path / "out" / "_siliconflow" / "replaced"
        assert [each.name for each in replaced.iterdir()] == [job_ids[0]]
        assert {row.batch_id for row in read_results(replaced / job_ids[0])} == {batches[0]}
        assert json.loads((replaced / job_ids[0] / "manifest.json").read_text())["job_id"] == job_ids[0]

    @pytest.mark.parametrize(
        "fault", [{"kind": "garbage"}, {"status": 404}, {"status": 503}, {"kind": "cut", "after_bytes": 20}], ids=str
    )
    def test_an_unavailable_file_is_asked_for_again(
        self, download, client, file_id, context, clock, emulator, tmp_path, fault: dict[str, Any]
    ) -> None:
        """A page in its place is not taken for an empty result."""
        batch = client.create_batch(file_id)
        clock.advance(200)
        emulator.control.fault("GET /results/{id}", every=1, **fault)
        started = clock.now
        with pytest.raises(SiliconFlowError):
            download(batch.id).execute(context)
        assert 600 <= clock.now - started < 1200
        assert not (tmp_path / "out").exists()
        clock.after(500, emulator.control.reset)
        assert download(batch.id).execute(context)["rows"] == 12

    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            ({"files_late_seconds": 1e9}, "12 completed and 0 failed, but the service shows no output file"),
            ({"lines_late_seconds": 1e9}, "but its output file has 0"),
            ({"unwritten": {"share": 0.5}}, "but its output file has 6"),
            ({"failing": {"share": 0.5}, "unwritten": {"positions": [0]}}, "but its files have 11 of these"),
            ({"counts_late_seconds": 1e9, "files_late_seconds": 1e9}, "has neither request counts nor results"),
        ],
        ids=str,
    )
    def test_what_is_not_delivered_is_an_error(
        self, download, client, file_id, context, clock, emulator, tmp_path, plan: dict[str, Any], message: str
    ) -> None:
        emulator.control.plan(**plan)
        batch = client.create_batch(file_id)
        clock.advance(200)
        with pytest.raises(
            UnreadableAnswerError, match=rf"{message}: nothing was written, and a retry downloads again"
        ):
            download(batch.id).execute(context)
        assert not (tmp_path / "out").exists()

    def test_a_cleared_task_writes_what_is_delivered(
        self, download, client, file_id, context, clock, emulator, tmp_path
    ) -> None:
        emulator.control.plan(unwritten={"share": 0.5})
        batch = client.create_batch(file_id)
        clock.advance(200)
        context["ti"].try_number = 2
        with pytest.raises(UnreadableAnswerError):
            download(batch.id).execute(context)
        context["ti"].clear()
        assert download(batch.id).execute(context)["counts"] == {"succeeded": 6, "missing": 6}

    @pytest.mark.parametrize(
        "plan",
        [
            {"counts_late_seconds": 87, "files_late_seconds": 87},
            {"lines_late_seconds": 400},
            {"counts_late_seconds": 1e9},
            {"gone_seconds": 400},
        ],
        ids=str,
    )
    def test_what_comes_late_is_waited_for(
        self, download, client, file_id, context, clock, emulator, plan: dict[str, Any]
    ) -> None:
        emulator.control.plan(**plan)
        batch = client.create_batch(file_id)
        clock.advance(200)
        assert download(batch.id).execute(context)["rows"] == 12


class TestExpiredBatch:
    @pytest.fixture
    def options(self, tmp_path: Path) -> EmulatorOptions:
        """A batch would run for two days, and its window is one."""
        return EmulatorOptions(data_dir=tmp_path / "data", queue_seconds=10, run_seconds=172_800)

    def test_it_fails_and_its_answers_are_available(self, create, run, context, connection, tmp_path) -> None:
        with pytest.raises(
            BatchExpiredError,
            match=r"expired after 1d 0h 0m: 5 of 12 requests answered, 7 failed.*5 answers are billed.*clearing",
        ):
            run(create)
        batch_id = context["ti"].xcoms["batch_id"]
        download = DownloadResultsOperator(task_id="download", batch_id=batch_id, output_path=str(tmp_path / "out"))
        assert download.execute(context)["counts"] == {"succeeded": 5, "expired": 7}


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(each) for each in local(path).read_text().splitlines()]


def local(path: str) -> Path:
    return Path(path.removeprefix("file://"))
