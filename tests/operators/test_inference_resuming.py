"""Whole jobs: a retried or cleared task resumes its job and submits nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import BatchTiming
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import EmulatorOptions
from siliconflow_provider.exceptions import (
    BatchWaitError,
    JobDefinitionError,
    MissedSuccessRateError,
    OutputPathError,
    SubmissionStoppedError,
)
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.storage.workspace import Workspace
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, batches, statuses, sums
from tests.kills import Killed


class TestContinue:
    def test_an_existing_job_resumes_without_its_source(
        self, infer: Infer, run: Run, kill: Any, control: Control, logged: Any, tmp_path: Path
    ) -> None:
        """A database cursor without ORDER BY cannot cause duplicates."""
        path = tmp_path / "in.jsonl"
        path.write_text('{"q": "1 + 1"}\n{"q": "2 + 1"}\n')
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(input_path=str(path), prompt="{q}"))
        path.unlink()
        assert run(lambda: infer(input_path=str(path), prompt="{q}"))["rows"] == 2
        assert "resuming the job of 2027-01-15 08:00:00 UTC (2 requests, 1 part);" in logged()
        assert_nothing_was_bought_twice(control, 2)

    @pytest.mark.parametrize(
        ("deferrable", "timeout", "limit"),
        [(True, None, "one hour after the completion window"), (False, 7200, "timeout=2:00:00")],
    )
    def test_a_wait_is_not_logged_as_a_retry(
        self, infer: Infer, run: Run, logged: Any, deferrable: bool, timeout: int | None, limit: str
    ) -> None:
        run(lambda: infer(requests=sums(2), deferrable=deferrable, timeout=timeout))
        assert f"UTC at most ({limit})" in logged()
        assert "resuming the job of" not in logged()
        run(lambda: infer(requests=sums(2), deferrable=deferrable, timeout=timeout))
        assert "resuming the job of" in logged()

    def test_a_changed_definition_stops_a_retry(self, infer: Infer, run: Run, control: Control) -> None:
        run(lambda: infer(requests=sums(3)))
        with pytest.raises(
            JobDefinitionError,
            match=r"system_prompt, model changed since .*, and a retry will not submit a different job.*\n.*clear",
        ):
            run(lambda: infer(requests=sums(3), model="m", system_prompt="s"))
        assert control.batches_created() == 1

    @pytest.mark.parametrize("change", [{"request_params": {"max_tokens": 9}}, {"submission_key": "again"}])
    def test_a_changed_cleared_task_starts_another_job(
        self, infer: Infer, run: Run, control: Control, context: Any, logged: Any, change: dict[str, Any], kill: Any
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        context["ti"].clear()
        run(lambda: infer(requests=sums(3), **change))
        assert control.batches_created() == 2
        assert f"is still running and billed; a new job was started because {next(iter(change))} changed" in logged()

    def test_an_equal_part_is_not_resubmitted(
        self, infer: Infer, run: Run, control: Control, context: Any, part_lines: Any
    ) -> None:
        part_lines(3)
        run(lambda: infer(requests=sums(6), prompt=None))
        context["ti"].clear()
        run(lambda: infer(requests=[*sums(5), "6 + 6"], id_column="id"))
        assert (control.batches_created(), control.executions().total) == (3, 6 + 1)

    @pytest.mark.parametrize("is_over", [True, False])
    def test_missing_files_stop_a_submitted_job(
        self, infer: Infer, run: Run, tmp_path: Path, kill: Any, is_over: bool, clock: Any, context: Any
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        clock.advance(200 if is_over else 20)
        (tmp_path / "out" / "_siliconflow" / "job.json").unlink()
        context["ti"].clear()
        with pytest.raises(
            JobDefinitionError, match=r"job\.json is missing, but this task has 1 active or completed batch \(batch_"
        ):
            run(lambda: infer(requests=sums(3)))

    def test_missing_files_of_an_unanswered_job_are_harmless(
        self, infer: Infer, run: Run, tmp_path: Path, control: Control
    ) -> None:
        control.plan(end="failed", times=2)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(3)))
        (tmp_path / "out" / "_siliconflow" / "job.json").unlink()
        assert run(lambda: infer(requests=sums(2)))["rows"] == 2

    def test_another_tasks_directory_error_suggests_a_template(
        self, infer: Infer, run: Run, context: Any, control: Control
    ) -> None:
        run(lambda: infer(requests=sums(3)))
        context["ti"].run_id = "another"
        context["ti"].clear()
        with pytest.raises(
            OutputPathError, match=r"the job of another task instance \(nightly/create/manual.*run_id }}"
        ):
            run(lambda: infer(requests=sums(3)))
        assert control.batches_created() == 1

    @pytest.mark.parametrize(
        ("name", "nth", "after"),
        [("publish", 1, False), ("publish", 1, True), ("publish_json", 1, False), ("publish_json", 1, True)],
    )
    def test_a_kill_while_the_job_is_written(
        self, infer: Infer, run: Run, rows: Rows, kill: Any, control: Control, name: str, nth: int, after: bool
    ) -> None:
        kill(Workspace, name, nth=nth, after=after)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        run(lambda: infer(requests=sums(3)))
        assert [row["content"] for row in rows()] == ["1", "2", "3"]
        assert_nothing_was_bought_twice(control, 3)

    def test_the_first_concurrent_attempt_creates_the_job(
        self, infer: Infer, run: Run, rows: Rows, control: Control, logged: Any
    ) -> None:
        def slow() -> Iterator[str]:
            yield from sums(2)
            run(lambda: infer(requests=sums(3)))

        run(lambda: infer(requests=slow()))
        assert [each["content"] for each in rows()] == ["1", "2", "3"]
        assert "resuming the job that another attempt of this task prepared at the same time" in logged()
        assert_nothing_was_bought_twice(control, 3)

    def test_two_concurrent_writers_run_the_last_job(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clock: Any, logged: Any, tmp_path: Path
    ) -> None:
        """The source may return different items to each attempt."""

        def other_attempt() -> None:
            # It looked before the first attempt had written anything.
            (tmp_path / "out" / "_siliconflow" / "job.json").unlink()
            run(lambda: infer(requests=sums(3)))

        clock.after(LIST_LAG_SECONDS - 1, other_attempt)
        run(lambda: infer(requests=sums(2)))
        assert [each["content"] for each in rows()] == ["1", "2", "3"]
        assert "resuming the job that another attempt of this task prepared at the same time" in logged()
        assert_nothing_was_bought_twice(control, 3)

    def test_overwritten_requests_of_the_job_are_restored(
        self, infer: Infer, run: Run, rows: Rows, clock: Any, tmp_path: Path
    ) -> None:
        items = [{"q": sum} for sum in sums(3)]
        for name in ("requests.jsonl", "rows.jsonl"):
            clock.after(
                LIST_LAG_SECONDS - 1,
                lambda name=name: replace_file(tmp_path / "out" / "_siliconflow" / name),
            )
        run(lambda: infer(requests=items, prompt="{q}", deferrable=True))
        assert [row["input"] for row in rows()] == items

    def test_a_late_attempt_submits_nothing(
        self, infer: Infer, run: Run, control: Control, monkeypatch: pytest.MonkeyPatch, kill: Any
    ) -> None:
        """It was delayed after its check, and writes its own job after the other attempt has submitted."""
        publish_json = Workspace.publish_json

        def late(self: Workspace, name: str, value: Any) -> None:
            monkeypatch.setattr(Workspace, "publish_json", publish_json)
            kill(JobRunner, "submit", after=True)
            with pytest.raises(Killed):
                run(lambda: infer(requests=sums(3)))
            publish_json(self, name, value)

        monkeypatch.setattr(Workspace, "publish_json", late)
        with pytest.raises(
            RequestsLostError, match=r"another attempt of this task already submitted a different job \(batch"
        ):
            run(lambda: infer(requests=sums(2)))
        assert control.batches_created() == 1

    def test_a_submitted_job_is_restored(
        self, infer: Infer, run: Run, rows: Rows, clock: Any, tmp_path: Path, control: Control
    ) -> None:
        for name in ("requests.jsonl", "job.json"):
            path = tmp_path / "out" / "_siliconflow" / name
            clock.after(2 * LIST_LAG_SECONDS - 1, lambda path=path: replace_file(path))
        run(lambda: infer(requests=sums(3), deferrable=True))
        assert [row["content"] for row in rows()] == ["1", "2", "3"]
        assert_nothing_was_bought_twice(control, 3)

    def test_requests_of_another_job_are_never_sent(
        self, infer: Infer, run: Run, control: Control, tmp_path: Path, kill: Any, clock: Any
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        requests = tmp_path / "out" / "_siliconflow" / "requests.jsonl"
        requests.write_bytes(requests.read_bytes().replace(b"2 + 1", b"5 + 1"))
        clock.advance(200)
        with pytest.raises(
            RequestsLostError, match=r"requests\.jsonl was changed since the job was created: restore it"
        ):
            run(lambda: infer(requests=sums(3)))
        assert not (tmp_path / "out" / "results.jsonl").exists()
        requests.unlink()
        with pytest.raises(RequestsLostError, match=r"requests\.jsonl is missing: restore it"):
            run(lambda: infer(requests=sums(3)))
        assert control.batches_created() == 1


def replace_file(path: Path) -> None:
    """Replace a file as another attempt does."""
    (path.parent / "new").write_text("another's\n")
    (path.parent / "new").replace(path)


class TestParts:
    def test_only_missing_parts_are_submitted_after_crashes(
        self, infer: Infer, run: Run, rows: Rows, control: Control, kill: Any, part_lines: Any
    ) -> None:
        part_lines(4)
        kill(SiliconFlowClient, "create_batch", nth=3)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(18)))
        created = control.batches_created()
        assert 2 <= created < 5
        run(lambda: infer(requests=sums(18)))
        assert control.batches_created() == 5
        assert [row["content"] for row in rows()] == [str(i + 1) for i in range(18)]
        assert_nothing_was_bought_twice(control, 18)

    def test_a_concurrent_attempts_younger_batches_are_cancelled(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create, is_twin = SiliconFlowClient.create_batch, []

        def twice(self: SiliconFlowClient, *arguments: Any, **options: Any) -> Any:
            first = create(self, *arguments, **options)
            if not is_twin:
                is_twin.append(True)
                create(self, *arguments, **options)
            return first

        monkeypatch.setattr(SiliconFlowClient, "create_batch", twice)
        run(lambda: infer(requests=sums(3)))
        assert sorted(batch.status for batch in batches(client)) == ["cancelled", "completed"]
        assert statuses(rows()) == ["succeeded"] * 3

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    def test_a_lagging_list_causes_no_second_wait(
        self, infer: Infer, run: Run, rows: Rows, monkeypatch: pytest.MonkeyPatch, deferrable: bool
    ) -> None:
        """This is about a batch whose wait has already ended."""
        list_batches, looks = SiliconFlowClient.list_batches, []

        def lagging(self: SiliconFlowClient, **options: Any) -> Iterator[Any]:
            looks.append(1)
            assert len(looks) < 9
            for batch in list_batches(self, **options):
                yield replace(batch, status="in_progress", timing=BatchTiming(created_at=batch.timing.created_at))

        monkeypatch.setattr(SiliconFlowClient, "list_batches", lagging)
        run(lambda: infer(requests=sums(3), deferrable=deferrable))
        assert statuses(rows()) == ["succeeded"] * 3

    def test_a_lost_create_response_submits_nothing_twice(
        self, infer: Infer, run: Run, control: Control, part_lines: Any
    ) -> None:
        part_lines(4)
        control.fault("POST /batches", "lost_answer", nth=2)
        run(lambda: infer(requests=sums(12)))
        assert_nothing_was_bought_twice(control, 12)


class TestListForms:
    """Missing or late items in the service's list must not make a job resubmit its parts."""

    @pytest.fixture(
        params=[
            {"list_lag_seconds": 60.0},
            {"list_without_metadata": True},
            {"list_without_times": True},
            {"list_without_times": True, "list_without_metadata": True, "openai_lines": True, "result_ids": True},
            {"metadata_dropped": True},
            {"metadata_users_only": True},
            {"metadata_cut": True},
        ],
        ids=str,
    )
    def options(self, options: EmulatorOptions, request: pytest.FixtureRequest) -> EmulatorOptions:
        return replace(options, forms=replace(options.forms, **request.param))

    def test_every_part_is_submitted_once(
        self, infer: Infer, run: Run, control: Control, part_lines: Any, clock: Any
    ) -> None:
        part_lines(4)
        for _ in range(2):
            assert run(lambda: infer(requests=sums(10)))["counts"] == {"succeeded": 10}
            clock.advance(100)
        assert control.batches_created() == 3


class TestGone:
    """A recorded batch that the service does not know is not resubmitted automatically."""

    @pytest.fixture
    def forms(self) -> Forms:
        return Forms(list_lag_seconds=1e6)

    def test_one_part_of_two_stops_the_retry(
        self, infer: Infer, run: Run, control: Control, part_lines: Any, kill: Any, context: Any, clock: Any
    ) -> None:
        part_lines(2)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(4)))
        clock.advance(300)
        context["ti"].try_number += 1
        control.fault("GET /batches/{id}", status=404)
        with pytest.raises(SubmissionStoppedError, match=r"created \(batch_\w+\) are not in the account"):
            run(lambda: infer(requests=sums(4)))
        assert run(lambda: infer(requests=sums(4)))["counts"] == {"succeeded": 4}
        assert control.batches_created() == 2


class TestKilled:
    """Work that continues for some seconds after Airflow has called `on_kill`."""

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    @pytest.mark.parametrize(("cancel_on_kill", "status"), [(True, "cancelling"), (False, "in_queue")])
    def test_a_kill_while_submitting_ends_like_waiting(
        self,
        infer: Infer,
        run: Run,
        client: SiliconFlowClient,
        clock: Any,
        logged: Any,
        cancel_on_kill: bool,
        status: str,
        deferrable: bool,
    ) -> None:
        task = infer(requests=sums(3), cancel_on_kill=cancel_on_kill, deferrable=deferrable)
        # The batch was created some seconds after the job was prepared, and this is some seconds later.
        clock.after(2 * LIST_LAG_SECONDS - 1, task.on_kill)
        with pytest.raises(BatchWaitError, match="task was killed; the next attempt will resume the job"):
            run(lambda: task)
        assert [batch.status for batch in batches(client)] == [status]
        assert "task was killed" in logged()

    def test_a_kill_before_submitting_submits_nothing(
        self, infer: Infer, run: Run, client: SiliconFlowClient, clock: Any
    ) -> None:
        def slow() -> Iterator[str]:
            yield from sums(3)
            task.on_kill()

        task = infer(requests=slow())
        with pytest.raises(BatchWaitError, match="task was killed; the next attempt"):
            run(lambda: task)
        assert batches(client) == []
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}

    def test_while_it_collects_it_sends_no_further_round(self, infer: Infer, run: Run, control: Control) -> None:
        class Killing(BaseModel):
            @model_validator(mode="before")
            @classmethod
            def kill(cls, value: Any) -> Any:
                task.on_kill()
                raise ValueError("bad")

        task = infer(requests=sums(3), output_type=Killing)
        with pytest.raises(BatchWaitError, match="task was killed; the next attempt"):
            run(lambda: task)
        assert control.batches_created() == 1
