"""Whole jobs against the emulator, in held time: rows in, one row each out, nothing paid for twice."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel, model_validator

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import InvalidRequestError, SiliconFlowError
from siliconflow_provider.api.models import BatchTiming
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import EmulatorOptions
from siliconflow_provider.exceptions import (
    BatchCancelledError,
    BatchTimeoutError,
    BatchWaitError,
    JobDefinitionError,
    MissedSuccessRateError,
    OutputPathError,
    SubmissionStoppedError,
)
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.results import read_results
from siliconflow_provider.storage.errors import StorageError
from siliconflow_provider.storage.workspace import Workspace
from tests.kills import Killed

Infer = Callable[..., Any]
Run = Callable[..., Any]
Rows = Callable[[], list[dict[str, Any]]]
DAY = 24 * 3600
HALF_A_DAY = DAY / 2


def sums(count: int, start: int = 0) -> list[str]:
    return [f"What is {number} + 1?" for number in range(start, start + count)]


def batches(client: SiliconFlowClient) -> list[Any]:
    return list(client.list_batches())


def statuses(rows: list[dict[str, Any]]) -> list[str]:
    return [each["status"] for each in rows]


def assert_nothing_was_bought_twice(control: Control, answered: int) -> None:
    executions = control.executions()
    assert (executions.distinct, executions.most) == (answered, 1)


class TestIn:
    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_input_rows_keep_order_in_results(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        tmp_path: Path,
        client: SiliconFlowClient,
        deferrable: bool,
        suffix: str,
    ) -> None:
        given = [{"id": f"q{i}", "question": f"{i} + 1", "more": {"a": [1, None, "é"]}} for i in range(12)]
        content = "".join(json.dumps(each) + "\n" for each in given).encode()
        path = tmp_path / f"qa.jsonl{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        summary = run(
            lambda: infer(
                input_path=str(path),
                prompt="What is {question}?",
                id_column="id",
                system_prompt="Answer with a number.",
                request_params={"max_tokens": 50},
                deferrable=deferrable,
            )
        )
        assert summary == {
            "results_path": f"file://{tmp_path}/out/results.jsonl",
            "manifest_path": f"file://{tmp_path}/out/manifest.json",
            "success_rate": 1.0,
            "rows": 12,
            "counts": {"succeeded": 12},
            "tokens": summary["tokens"],
            "rounds": 1,
        }
        assert [each["input"] for each in rows()] == given
        assert [(each["index"], each["custom_id"], each["content"]) for each in rows()] == [
            (i, f"q{i}", str(i + 1)) for i in range(12)
        ]
        assert len(batches(client)) == 1

    @pytest.mark.parametrize(
        "items",
        [
            ["1 + 1", "2 + 1"],
            [[{"role": "user", "content": "1 + 1"}], ({"role": "user", "content": "2 + 1"},)],
            [{"body": {"messages": [{"role": "user", "content": each}]}} for each in ("1 + 1", "2 + 1")],
        ],
        ids=["texts", "message lists", "request lines"],
    )
    def test_any_iterable_is_taken(self, infer: Infer, run: Run, rows: Rows, items: list[Any]) -> None:
        run(lambda: infer(requests=iter(items)))
        assert [(each["custom_id"], each["content"], each["input"]) for each in rows()] == [
            ("request-000001", "2", None),
            ("request-000002", "3", None),
        ]

    @pytest.mark.parametrize(
        ("paths", "named"),
        [
            ({"input_path": "/nowhere/qa.jsonl"}, "cannot read input_path file:///nowhere/qa.jsonl: "),
            ({"input_path": "gs://b/qa.jsonl"}, "input_path gs://b/qa.jsonl: no file system for gs:// is installed"),
            (
                {"output_path": "/dev/null/out"},
                "cannot (read|write) output_path file:///dev/null/out/.*: a part of the",
            ),
            ({"output_path": " "}, "output_path is empty: give a path"),
        ],
    )
    def test_invalid_paths_are_named_before_submitting(
        self, infer: Infer, run: Run, client: SiliconFlowClient, paths: dict[str, str], named: str
    ) -> None:
        requests = None if "input_path" in paths else ["1 + 1"]
        with pytest.raises(StorageError, match=named):
            run(lambda: infer(requests=requests, prompt=None, **paths))
        assert (batches(client), client.list_files()) == ([], [])

    def test_request_lines_are_sent_unchanged(
        self, infer: Infer, run: Run, tmp_path: Path, sums: Callable[[int], bytes]
    ) -> None:
        """Also with a byte order mark, blank lines and other ends of line."""
        path = tmp_path / "requests.jsonl"
        path.write_bytes(b"\xef\xbb\xbf" + sums(3).replace(b"\n", b"\r\n\r\n"))
        run(lambda: infer(input_path=str(path), model=None))
        assert (tmp_path / "out" / "_siliconflow" / "requests.jsonl").read_bytes() == sums(3)
        assert not (tmp_path / "out" / "_siliconflow" / "rows.jsonl").exists()

    def test_bad_items_are_named_and_nothing_is_submitted(
        self, infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path
    ) -> None:
        items = [{"id": f"q{i}", "q": "1 + 1"} if i % 2 else {"id": f"q{i}"} for i in range(1, 31)]
        with pytest.raises(InvalidRequestFileError) as caught:
            run(lambda: infer(requests=items, prompt="{q}", id_column="id"))
        first, *shown, last = str(caught.value).split("\n")
        assert first.startswith("requests: 15 of 30 items are invalid and nothing was submitted")
        assert shown[0] == "  item 2 (q2): column 'q' is missing; the row has 'id'"
        assert (len(shown), last) == (10, "  and 5 more")
        assert not client.list_files()
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_ids_that_may_come_back_changed_are_refused(
        self, infer: Infer, run: Run, client: SiliconFlowClient, tmp_path: Path, suffix: str
    ) -> None:
        content = "".join(json.dumps({"id": each, "q": "1 + 1"}) + "\n" for each in ("a", "b ", "c" * 65)).encode()
        path = tmp_path / f"in.jsonl{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        with pytest.raises(InvalidRequestFileError) as caught:
            run(lambda: infer(input_path=str(path), prompt="{q}", id_column="id"))
        shown = str(caught.value).split("\n")[1:]
        assert shown[0] == "  line 2 (b ): custom_id 'b ' begins or ends with whitespace; remove it"
        assert re.fullmatch(
            r"  line 3 \(c+\.\.\.\): custom_id 'c+\.\.\. has 65 characters; use at most 64, .*", shown[1]
        )
        assert client.list_files() == []

    def test_invalid_metadata_fails_before_the_source_is_read(self, infer: Infer, run: Run, tmp_path: Path) -> None:
        unread = (pytest.fail("the source is read") for _ in range(1))
        with pytest.raises(InvalidRequestError, match="keys that begin with 'airflow_'"):
            run(lambda: infer(requests=unread, metadata={"airflow_team": "a"}))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_an_empty_input_succeeds_without_a_batch(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, deferrable: bool, manifest: Any
    ) -> None:
        summary = run(lambda: infer(requests=[], deferrable=deferrable))
        assert (summary["rows"], summary["success_rate"], rows(), batches(client)) == (0, 1.0, [], [])
        assert (manifest()["complete"], manifest()["rounds"]) == (True, 0)

    def test_requests_stream_from_a_generator(self, infer: Infer, run: Run, tmp_path: Path) -> None:
        """What a cursor has yielded is not kept: no more than a few items live at a time."""
        alive: Counter[str] = Counter()

        class Row(dict[str, str]):
            def __init__(self) -> None:
                super().__init__(q="1 + 1")
                alive["now"] += 1
                alive["most"] = max(alive["most"], alive["now"])

            def __del__(self) -> None:
                alive["now"] -= 1

        run(lambda: infer(requests=(Row() for _ in range(500)), prompt="{q}"))
        assert alive["most"] <= 3


class TestContinue:
    def test_an_existing_job_resumes_without_its_source(
        self, infer: Infer, run: Run, kill: Any, control: Control, logged: Any, tmp_path: Path
    ) -> None:
        """A cursor without an order cannot buy anything twice."""
        path = tmp_path / "in.jsonl"
        path.write_text('{"q": "1 + 1"}\n{"q": "2 + 1"}\n')
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(input_path=str(path), prompt="{q}"))
        path.unlink()
        assert run(lambda: infer(input_path=str(path), prompt="{q}"))["rows"] == 2
        assert "resuming the job of 2027-01-15 08:00:00 UTC (2 requests, 1 part);" in logged()
        assert_nothing_was_bought_twice(control, 2)

    def test_a_changed_definition_stops_a_retry(self, infer: Infer, run: Run, control: Control) -> None:
        run(lambda: infer(requests=sums(3)))
        with pytest.raises(
            JobDefinitionError,
            match=r"system_prompt, model changed since .*, and a retry will not submit a different job.*clear the task",
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
        assert [each["content"] for each in rows()] == ["1", "2", "3"]
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
        """A source may give each of them something else."""

        def other_attempt() -> None:
            # It looked before the first one had written anything.
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
        items = [{"q": each} for each in sums(3)]
        for name in ("requests.jsonl", "rows.jsonl"):
            clock.after(
                LIST_LAG_SECONDS - 1,
                lambda name=name: replace_file(tmp_path / "out" / "_siliconflow" / name),
            )
        run(lambda: infer(requests=items, prompt="{q}", deferrable=True))
        assert [each["input"] for each in rows()] == items

    def test_a_late_attempt_submits_nothing(
        self, infer: Infer, run: Run, control: Control, monkeypatch: pytest.MonkeyPatch, kill: Any
    ) -> None:
        """It writes its own job when the other's is submitted, since it was held up after it had looked."""
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
        assert [each["content"] for each in rows()] == ["1", "2", "3"]
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
    """Put another file in the place of one, as another attempt does."""
    (path.parent / "new").write_text("another's\n")
    (path.parent / "new").replace(path)


class TestForgotten:
    def test_after_30_days_only_unwritten_rows_are_resent(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        control: Control,
        clock: Any,
        context: Any,
        part_lines: Any,
        manifest: Any,
    ) -> None:
        part_lines(3)
        control.plan(failing={"positions": [1]}, times=4)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(6)))
        before = rows()
        clock.advance(31 * DAY)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(6)))
        assert rows() == before
        assert control.batches_created() == 3
        context["ti"].clear()
        assert run(lambda: infer(requests=sums(6)))["counts"] == {"succeeded": 6}
        assert [each["content"] for each in rows()] == ["1", "2", "3", "4", "5", "6"]
        assert (len(manifest()["batches"]), manifest()["rounds"]) == (4, 3)
        # Neither is anything bought again once all of it is forgotten.
        clock.advance(31 * DAY)
        assert run(lambda: infer(requests=sums(6)))["counts"] == {"succeeded": 6}
        assert control.batches_created() == 4

    def test_unwritten_answers_are_an_error_unless_cleared(
        self, infer: Infer, run: Run, control: Control, clock: Any, context: Any, kill: Any
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        clock.advance(31 * DAY)
        with pytest.raises(
            JobDefinitionError, match=r"is 31 days old, and the service deletes batches after 30.*Clear the task"
        ):
            run(lambda: infer(requests=sums(3)))
        assert control.batches_created() == 1
        context["ti"].clear()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}

    def test_unfinished_rows_are_an_error_unless_cleared(
        self, infer: Infer, run: Run, control: Control, clock: Any, context: Any, part_lines: Any
    ) -> None:
        part_lines(3)
        control.plan(nth=2, stuck="in_progress")
        with pytest.raises(BatchTimeoutError):
            run(lambda: infer(requests=sums(6)))
        clock.advance(31 * DAY)
        with pytest.raises(JobDefinitionError, match=r"deleted a batch of round 1 .* 30 days\. Clear the task"):
            run(lambda: infer(requests=sums(6)))
        assert control.batches_created() == 2
        context["ti"].clear()
        assert run(lambda: infer(requests=sums(6)))["counts"] == {"succeeded": 6}
        assert control.batches_created() == 3

    def test_early_rounds_are_written_before_service_deletes_them(
        self, infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any
    ) -> None:
        part_lines(3)
        for _ in range(3):
            control.plan(failing={"positions": [0]}, run_seconds=13.5 * DAY, times=1)
        control.plan(failing={"positions": [0]}, run_seconds=13.5 * DAY, times=3)
        summary = run(
            lambda: infer(
                requests=sums(6),
                max_rounds=4,
                completion_window="336h",
                min_success_rate=None,
                poll_interval=HALF_A_DAY,
            )
        )
        assert summary["rounds"] == 4
        assert Counter(statuses(rows()))["succeeded"] >= 4


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
        assert [each["content"] for each in rows()] == [str(i + 1) for i in range(18)]
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
        assert sorted(each.status for each in batches(client)) == ["cancelled", "completed"]
        assert statuses(rows()) == ["succeeded"] * 3

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    def test_a_lagging_list_causes_no_second_wait(
        self, infer: Infer, run: Run, rows: Rows, monkeypatch: pytest.MonkeyPatch, deferrable: bool
    ) -> None:
        """For a batch that its wait has seen end."""
        list_batches, looks = SiliconFlowClient.list_batches, []

        def lagging(self: SiliconFlowClient, **options: Any) -> Iterator[Any]:
            looks.append(1)
            assert len(looks) < 9
            for each in list_batches(self, **options):
                yield replace(each, status="in_progress", timing=BatchTiming(created_at=each.timing.created_at))

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
    """What the service's list lacks or shows late must not make a job buy its parts again."""

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

    def test_every_part_is_bought_once(
        self, infer: Infer, run: Run, control: Control, part_lines: Any, clock: Any
    ) -> None:
        part_lines(4)
        for _ in range(2):
            assert run(lambda: infer(requests=sums(10)))["counts"] == {"succeeded": 10}
            clock.advance(100)
        assert control.batches_created() == 3


class TestGone:
    """A batch that is written down, and that the service does not find, is not bought again by itself."""

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


class TestRounds:
    def test_only_failures_are_sent_again(
        self, infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any, manifest: Any
    ) -> None:
        part_lines(5)
        control.plan(failing={"positions": [1, 3]}, missing={"positions": [4]}, times=2)
        assert run(lambda: infer(requests=sums(10)))["rounds"] == 2
        assert [each["content"] for each in rows()] == [str(i + 1) for i in range(10)]
        assert [each["round"] for each in rows()] == [1, 2, 1, 2, 2] * 2
        assert manifest()["counts"] == {"succeeded": 10}
        assert control.executions().total == 16

    def test_permanent_errors_are_not_resent_when_cleared(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any
    ) -> None:
        control.plan(failing={"positions": [1], "code": "invalid_request", "message": "too long"})
        with pytest.raises(
            MissedSuccessRateError, match=r"1 x invalid_request: too long.*Clearing the task would resend nothing"
        ):
            run(lambda: infer(requests=sums(3)))
        context["ti"].clear()
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(3)))
        assert statuses(rows()) == ["succeeded", "failed", "succeeded"]
        assert control.batches_created() == 1

    @pytest.mark.parametrize(
        ("end", "rounds", "counts"),
        [
            ("expired", 2, {"succeeded": 8}),
            ("failed", 2, {"succeeded": 8}),
            ("cancelled", 1, {"succeeded": 4, "cancelled": 4}),
        ],
    )
    def test_answers_are_kept_whatever_the_final_status(
        self, infer: Infer, run: Run, control: Control, end: str, rounds: int, counts: dict[str, int]
    ) -> None:
        """What somebody has cancelled is not sent again until somebody clears the task."""
        control.plan(end=end)
        summary = run(lambda: infer(requests=sums(8), min_success_rate=0.5))
        assert (summary["rounds"], summary["counts"]) == (rounds, counts)
        assert control.executions().most == 1

    def test_clearing_allows_new_rounds_retrying_does_not(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any, clock: Any
    ) -> None:
        control.plan(failing={"positions": [1]}, times=1)
        control.plan(failing={"positions": [0]}, times=3)
        for _ in range(2):
            with pytest.raises(
                MissedSuccessRateError, match=r"66\.67%.*2 of 3 requests succeeded in 2 rounds \(1 failed\)"
            ):
                run(lambda: infer(requests=sums(3), timeout=timedelta(hours=2)))
        assert control.batches_created() == 2
        clock.advance(3 * DAY)
        context["ti"].clear()
        with pytest.raises(MissedSuccessRateError, match="in 4 rounds"):
            run(lambda: infer(requests=sums(3), timeout=timedelta(hours=2)))
        assert control.batches_created() == 4
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(3), timeout=timedelta(hours=2)))
        assert control.batches_created() == 4
        context["ti"].clear()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}
        assert [each["round"] for each in rows()] == [1, 5, 1]

    def test_clearing_sends_what_was_cancelled(self, infer: Infer, run: Run, control: Control, context: Any) -> None:
        control.plan(end="cancelled", run_share=0.5)
        with pytest.raises(MissedSuccessRateError, match=r"Clearing the task would resend 3 requests"):
            run(lambda: infer(requests=sums(6)))
        context["ti"].clear()
        assert run(lambda: infer(requests=sums(6)))["counts"] == {"succeeded": 6}
        assert_nothing_was_bought_twice(control, 6)

    def test_unsent_parts_are_submitted_days_later(
        self, infer: Infer, run: Run, control: Control, kill: Any, part_lines: Any, clock: Any
    ) -> None:
        """The first parts' window is over by then, but they have answered."""
        part_lines(4)
        kill(SiliconFlowClient, "create_batch", nth=2)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(8)))
        clock.advance(3 * DAY)
        assert run(lambda: infer(requests=sums(8)))["counts"] == {"succeeded": 8}
        assert_nothing_was_bought_twice(control, 8)

    @pytest.mark.parametrize(
        ("owner", "name", "nth", "after"),
        [
            (Workspace, "publish", 3, False),
            (Workspace, "publish", 3, True),
            (Workspace, "publish", 4, True),
            (JobRunner, "submit", 2, False),
            (JobRunner, "submit", 2, True),
            (SiliconFlowClient, "download", 2, True),
            (Workspace, "publish_json", 3, False),
            (Workspace, "publish_json", 3, True),
        ],
    )
    def test_a_worker_that_dies_anywhere_buys_nothing_twice(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        control: Control,
        kill: Any,
        owner: Any,
        name: str,
        nth: int,
        after: bool,
    ) -> None:
        """Between plan and submission of a round, in the middle of a merge, between results and manifest."""
        control.plan(missing={"positions": [1]}, failing={"positions": [2]})
        kill(owner, name, nth=nth, after=after)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(4)))
        assert run(lambda: infer(requests=sums(4)))["counts"] == {"succeeded": 4}
        assert [each["content"] for each in rows()] == ["1", "2", "3", "4"]
        assert control.batches_created() == 2


class TestMerge:
    def test_duplicate_unknown_and_broken_lines_are_reported(
        self, infer: Infer, run: Run, rows: Rows, control: Control, manifest: Any, logged: Any
    ) -> None:
        control.plan(duplicated={"positions": [0, 1]}, unknown_ids=3, garbled={"positions": [4]})
        run(lambda: infer(requests=sums(6), max_rounds=1, min_success_rate=0.8))
        assert statuses(rows()) == ["succeeded"] * 4 + ["missing", "succeeded"]
        written = {name: manifest()[name] for name in ("duplicates", "unknown_requests", "unreadable_lines")}
        assert written == {"duplicates": 2, "unknown_requests": 3, "unreadable_lines": 1}
        assert "ignored 2 duplicate lines and 3 lines with unknown custom_ids" in logged()
        assert manifest()["tokens"]["prompt"] == sum(each["prompt_tokens"] or 0 for each in rows())


class TestLongLines:
    def test_a_too_long_answer_loses_one_row(
        self, infer: Infer, run: Run, rows: Rows, longest_line: Any, control: Control
    ) -> None:
        """It is billed, and would come again."""
        longest_line(3_000)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=["1 + 1", "x" * 5_000, "2 + 1"], max_rounds=3))
        assert [(each["index"], each["status"], each["content"]) for each in rows()] == [
            (0, "succeeded", "2"), (1, "failed", None), (2, "succeeded", "3"),
        ]  # fmt: skip
        assert rows()[1]["error"]["code"] == "answer_too_long"
        assert_nothing_was_bought_twice(control, 3)

    def test_an_item_that_is_too_long_is_named(
        self, infer: Infer, run: Run, longest_line: Any, tmp_path: Path, client: SiliconFlowClient
    ) -> None:
        longest_line(3_000)
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"a": "x" * size}) + "\n" for size in (9, 5_000, 9)))
        with pytest.raises(
            InvalidRequestFileError, match=r"1 of 3 lines is invalid.*\n  line 2: it has more than 33,554,432 bytes"
        ):
            run(lambda: infer(input_path=str(path), prompt="{a}"))
        assert batches(client) == []


class TestResults:
    """Results that come late, are not whole, are gone, or are not those of the requests; three parts of three."""

    @pytest.fixture
    def forms(self) -> Forms:
        return Forms(result_ids=True)

    @pytest.fixture(autouse=True)
    def three_parts(self, part_lines: Any) -> None:
        part_lines(3)

    @pytest.fixture(params=[True, False], ids=["deferred", "on the worker"])
    def deferrable(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    @pytest.mark.parametrize(
        "plan",
        [
            {"counts_late_seconds": 1.5, "files_late_seconds": 1.5},
            {"files_late_seconds": 1.5},
            {"files_late_seconds": 500.0},
            {"lines_late_seconds": 500.0},
            {"counts_late_seconds": 90.0, "lines_late_seconds": 90.0},
            {"counts_late_seconds": 1e9},
            {"gone_seconds": 3000.0},
        ],
        ids=str,
    )
    def test_late_results_are_waited_for_and_bought_once(
        self, infer: Infer, run: Run, rows: Rows, control: Control, plan: dict[str, float], deferrable: bool
    ) -> None:
        control.plan(nth=2, **plan)
        assert run(lambda: infer(requests=sums(9), deferrable=deferrable))["counts"] == {"succeeded": 9}
        assert [each["content"] for each in rows()] == [str(i + 1) for i in range(9)]
        assert_nothing_was_bought_twice(control, 9)

    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            ({"files_late_seconds": 1e9}, "are 3 completed and 0 failed, but the service shows no output file"),
            ({"lines_late_seconds": 1e9}, "are 3 completed and 0 failed, but its output file has 0"),
            ({"unwritten": {"positions": [1]}}, "are 3 completed and 0 failed, but its output file has 2"),
            (
                {"counts_late_seconds": 1e9, "files_late_seconds": 1e9},
                "completed, but has neither request counts nor results",
            ),
            (
                {"failing": {"positions": [1]}, "unwritten": {"positions": [1]}},
                "are 2 completed and 1 failed, but its files have 2 of these",
            ),
        ],
        ids=str,
    )
    def test_undelivered_results_are_bought_only_once_cleared(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any, plan: dict[str, Any], message: str
    ) -> None:
        control.plan(nth=2, **plan)
        for _ in range(2):
            with pytest.raises(
                SiliconFlowError, match=rf"{message}.*a retry downloads again.*clear the task"
            ) as caught:
                run(lambda: infer(requests=sums(9), retries=3))
            assert not isinstance(caught.value, AirflowFailException)
            assert Counter(statuses(rows())) == {"succeeded": 6, "unfinished": 3}
            assert control.batches_created() == 3
            context["ti"].try_number += 1
        context["ti"].clear(retries=3)
        assert run(lambda: infer(requests=sums(9), retries=3))["counts"] == {"succeeded": 9}
        assert control.batches_created() == 4
        # Nor is that part an error to a retry of the cleared task.
        context["ti"].try_number += 1
        assert run(lambda: infer(requests=sums(9), retries=3))["counts"] == {"succeeded": 9}
        assert control.batches_created() == 4

    @pytest.mark.parametrize(
        ("plan", "examples"),
        [
            ({"lowered_ids": True}, r"in 3 of 3 lines: sent 'ID-(.)', received 'id-\1', sent 'ID-"),
            ({"ids_cut_to": 3}, r"in 3 of 3 lines: sent 'ID-\d', received 'ID-'"),
        ],
        ids=str,
    )
    def test_changed_ids_stop_the_job_and_buy_nothing(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any, plan: dict[str, Any], examples: str
    ) -> None:
        items = [{"id": f"ID-{i}", "q": each} for i, each in enumerate(sums(9))]
        control.plan(nth=2, **plan)
        for _ in range(2):
            with pytest.raises(SiliconFlowError, match=rf"{examples}.*nothing is resubmitted"):
                run(lambda: infer(requests=items, prompt="{q}", id_column="id"))
            context["ti"].try_number += 1
        assert Counter(statuses(rows())) == {"succeeded": 6, "unfinished": 3}
        assert_nothing_was_bought_twice(control, 9)

    def test_half_a_batch_missing_stops_the_job(self, infer: Infer, run: Run, control: Control, context: Any) -> None:
        control.plan(missing={"positions": [0, 1]}, counts_late_seconds=1e9)
        for _ in range(2):
            with pytest.raises(SiliconFlowError, match=r"its files lack 2 of its 3 requests, such as 'requ"):
                run(lambda: infer(requests=sums(3)))
            context["ti"].try_number += 1
        assert control.batches_created() == 1

    @pytest.mark.parametrize("is_counted", [True, False])
    def test_a_single_missing_row_needs_agreeing_counts(
        self, infer: Infer, run: Run, control: Control, is_counted: bool
    ) -> None:
        control.plan(**{"missing" if is_counted else "unwritten": {"positions": [0]}})
        if is_counted:
            assert run(lambda: infer(requests=sums(1)))["rounds"] == 2
        else:
            with pytest.raises(SiliconFlowError, match="are 1 completed and 0 failed, but its output file has 0"):
                run(lambda: infer(requests=sums(1)))
            assert control.batches_created() == 1

    def test_lost_results_are_missing_until_cleared(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any, clock: Any, deferrable: bool
    ) -> None:
        """While others are sent again, and without waiting for them a second time."""
        control.plan(failing={"positions": [1]})
        control.plan(gone_seconds=1e9)
        started = clock.now
        for _ in range(2):
            with pytest.raises(
                MissedSuccessRateError, match=r"6 of 9 .* \(3 missing\).*3 x results_lost.*again .*\(3\)"
            ):
                run(lambda: infer(requests=sums(9), retries=3, deferrable=deferrable))
            assert clock.now - started < 3 * 3600
            assert control.batches_created() == 4
            context["ti"].try_number += 1
        found = Counter((each["status"], each["error"] and each["error"]["code"]) for each in rows())
        assert found == {("succeeded", None): 6, ("missing", "results_lost"): 3}
        context["ti"].clear(retries=3)
        assert run(lambda: infer(requests=sums(9), retries=3))["counts"] == {"succeeded": 9}
        assert control.batches_created() == 5
        assert sorted(control.executions().counts.values()) == [1] * 5 + [2] * 4

    @pytest.mark.parametrize(
        "plan", [{"files_late_seconds": 500.0}, {"lines_late_seconds": 500.0}, {"gone_seconds": 3000.0}], ids=str
    )
    def test_a_new_rounds_late_results_are_awaited(
        self, infer: Infer, run: Run, control: Control, context: Any, plan: dict[str, float]
    ) -> None:
        def make() -> Any:
            return infer(requests=sums(3), max_rounds=1, retries=3)

        control.plan(failing={"positions": [1]})
        with pytest.raises(MissedSuccessRateError):
            run(make)
        context["ti"].clear(retries=3)
        control.plan(**plan)
        assert run(make)["counts"] == {"succeeded": 3}

    def test_an_unfetched_new_round_is_not_landed(
        self, infer: Infer, run: Run, control: Control, context: Any, rows: Rows
    ) -> None:
        def make() -> Any:
            return infer(requests=sums(3), max_rounds=1, retries=3)

        control.plan(failing={"positions": [1]})
        with pytest.raises(MissedSuccessRateError):
            run(make)
        context["ti"].clear(retries=3)
        control.plan(lines_late_seconds=5000.0)
        for _ in range(2):
            with pytest.raises(SiliconFlowError, match="but its output file has 0"):
                run(make)
            assert statuses(rows()) == ["succeeded", "unfinished", "succeeded"]
            context["ti"].try_number += 1

    def test_landed_results_outlive_their_files(
        self, infer: Infer, run: Run, rows: Rows, control: Control, clock: Any
    ) -> None:
        run(lambda: infer(requests=sums(9)))
        before, started = rows(), clock.now
        control.fault("GET /files/{id}/content", status=404, every=1)
        assert run(lambda: infer(requests=sums(9)))["counts"] == {"succeeded": 9}
        assert rows() == before
        assert clock.now - started < 60
        assert control.batches_created() == 3

    @pytest.mark.parametrize(
        "fault",
        [{"kind": "garbage"}, {"kind": "cut", "after_bytes": 20}, {"status": 403}, {"status": 503}],
        ids=str,
    )
    @pytest.mark.parametrize("seconds", [3000, 5000], ids=["heals", "lasts"])
    def test_an_unreadable_file_holds_no_other_part(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        control: Control,
        client: SiliconFlowClient,
        clock: Any,
        fault: Any,
        seconds: int,
    ) -> None:
        """What heals within an hour fails no task, and after that a retry heals it."""

        def break_second(*arguments: Any) -> None:
            reference = batches(client)[1].output_file_id
            control.fault(f"GET /files/{reference}/content", every=1, **fault)
            clock.after(seconds, control.reset)

        def make() -> Any:
            return infer(requests=sums(9), poll_interval=200)

        started = clock.now
        clock.after(150, break_second)
        if seconds > 3600:
            with pytest.raises(SiliconFlowError):
                run(make)
            assert Counter(statuses(rows())) == {"succeeded": 6, "unfinished": 3}
            clock.advance(seconds)
        assert run(make)["counts"] == {"succeeded": 9}
        assert clock.now - started > 2900
        assert_nothing_was_bought_twice(control, 9)

    @pytest.mark.parametrize("status", [403, 404, 503])
    def test_an_unreachable_batch_fails_no_task(
        self, infer: Infer, run: Run, control: Control, clock: Any, status: int
    ) -> None:
        """Once its wait is over, when its answers are fetched."""
        # The wait asks for each of the three twice.
        control.fault("GET /batches/{id}", status=status, nth=7, every=1)
        clock.after(3000, control.reset)
        assert run(lambda: infer(requests=sums(9), poll_interval=200))["counts"] == {"succeeded": 9}
        assert control.answers()["GET /batches/{id}"][status] > 6
        assert_nothing_was_bought_twice(control, 9)

    def test_landed_answers_survive_an_unfetched_part(
        self, infer: Infer, run: Run, rows: Rows, control: Control
    ) -> None:
        run(lambda: infer(requests=sums(9)))
        before = rows()
        control.fault("GET /files/{id}/content", status=503, nth=2, every=1)
        with pytest.raises(SiliconFlowError):
            run(lambda: infer(requests=sums(9)))
        assert rows() == before


class TestSignedUrls:
    def test_an_expired_url_is_asked_for_anew(
        self, infer: Infer, run: Run, control: Control, part_lines: Any, monkeypatch: pytest.MonkeyPatch, clock: Any
    ) -> None:
        part_lines(3)
        download = SiliconFlowClient.download

        def slow(self: SiliconFlowClient, *arguments: Any, **options: Any) -> int:
            if not slowed:
                slowed.append(True)
                clock.advance(3600)
            return download(self, *arguments, **options)

        slowed: list[bool] = []
        monkeypatch.setattr(SiliconFlowClient, "download", slow)
        assert run(lambda: infer(requests=sums(9)))["counts"] == {"succeeded": 9}
        assert_nothing_was_bought_twice(control, 9)


class Answer(BaseModel):
    answer: int


class TestStructuredOutput:
    def test_answers_are_asked_for_and_validated(self, infer: Infer, run: Run, rows: Rows, tmp_path: Path) -> None:
        run(lambda: infer(requests=sums(2), output_type=Answer, system_prompt="Be brief."))
        assert [each["output"] for each in rows()] == [{"answer": 1}, {"answer": 2}]
        request = json.loads((tmp_path / "out" / "_siliconflow" / "requests.jsonl").read_text().splitlines()[0])["body"]
        assert request["response_format"] == {"type": "json_object"}
        assert request["messages"][0]["content"].startswith("Be brief.\n\nAnswer with one JSON object")

    def test_invalid_answers_keep_text_and_are_resent(
        self, infer: Infer, run: Run, rows: Rows, control: Control, manifest: Any
    ) -> None:
        control.plan(nth=2, failing={"positions": [0]})
        with pytest.raises(MissedSuccessRateError, match="1 x invalid_output: answer: Input should be a valid integer"):
            run(lambda: infer(requests=["1 + 1", "hello"], output_type=Answer))
        assert statuses(rows()) == ["succeeded", "invalid"]
        # Round 2 has brought nothing better.
        assert (rows()[1]["content"], rows()[1]["round"]) == ('{"answer":"hello"}', 1)
        assert manifest()["rounds"] == 2

    def test_another_schema_is_another_definition(self, infer: Infer, run: Run) -> None:
        run(lambda: infer(requests=sums(1), output_type=Answer))
        with pytest.raises(JobDefinitionError, match="output_type changed since"):
            run(lambda: infer(requests=sums(1), output_type=dict[str, int]))


class TestOut:
    def test_results_and_manifest_on_an_object_store(
        self, infer: Infer, run: Run, object_store: str, tmp_path: Path, context: Any
    ) -> None:
        context["ti"].run_id = tmp_path.name
        summary = run(lambda: infer(requests=sums(3), output_path=f"{object_store}/{tmp_path.name}"))
        assert summary["results_path"].endswith(f"bucket/{tmp_path.name}/results.jsonl")
        assert [each.content for each in read_results(summary)] == ["1", "2", "3"]
        assert run(lambda: infer(requests=sums(3), output_path=f"{object_store}/{tmp_path.name}")) == summary

    def test_a_timeout_writes_answers_and_can_resume(
        self, infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any, manifest: Any, deferrable: bool
    ) -> None:
        part_lines(3)
        control.plan(nth=2, run_seconds=5000.0)

        def make(timeout: float) -> Any:
            return infer(requests=sums(6), timeout=timeout, deferrable=deferrable)

        with pytest.raises(
            BatchTimeoutError,
            match=r"timed out at [\d: -]+ UTC: 3 of 6 requests succeeded in 1 round \(3 unfinished\).*"
            r"Billed in total: 12 prompt and 3 completion tokens, plus the answered requests of batch (batch_\w+) "
            r"\(\d of 3 requests\). Batch \1 is still running.*To continue the job, set a larger timeout, or none, and clear the task",
        ) as caught:
            run(lambda: make(1000.0))
        assert isinstance(caught.value, AirflowFailException)
        assert Counter(statuses(rows())) == {"succeeded": 3, "unfinished": 3}
        assert manifest()["complete"] is False
        assert run(lambda: make(6000.0))["counts"] == {"succeeded": 6}
        assert manifest()["complete"] is True
        assert_nothing_was_bought_twice(control, 6)

    @pytest.fixture(params=[True, False], ids=["deferred", "on the worker"])
    def deferrable(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def test_cancel_on_timeout_cancels_and_is_a_verdict(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        client: SiliconFlowClient,
        control: Control,
        context: Any,
        clock: Any,
        deferrable: bool,
    ) -> None:
        control.plan(run_seconds=5000.0)

        def make() -> Any:
            return infer(requests=sums(6), timeout=1000, cancel_on_timeout=True, deferrable=deferrable)

        with pytest.raises(
            BatchCancelledError, match=r"cancel_on_timeout has cancelled batch batch_\w+: 0 of 6 .*unfinished"
        ):
            run(make)
        assert batches(client)[0].status == "cancelling"
        clock.advance(100)
        with pytest.raises(
            MissedSuccessRateError,
            match=r"1 of 6 .*5 cancelled.*Clearing the task would resend 5 requests without",
        ):
            run(make)
        context["ti"].clear()
        assert run(make)["counts"] == {"succeeded": 6}
        assert_nothing_was_bought_twice(control, 6)

    def test_an_attempt_that_begins_too_late_cancels_too(
        self, infer: Infer, run: Run, client: SiliconFlowClient, control: Control, clock: Any, kill: Any
    ) -> None:
        control.plan(stuck="in_progress")
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        clock.advance(2000)
        with pytest.raises(BatchCancelledError, match="has cancelled"):
            run(lambda: infer(requests=sums(6), timeout=1000, cancel_on_timeout=True))
        assert batches(client)[0].status == "cancelling"

    def test_parts_not_sent_in_time_are_unfinished(
        self, infer: Infer, run: Run, rows: Rows, kill: Any, part_lines: Any, clock: Any, manifest: Any
    ) -> None:
        part_lines(3)
        kill(JobRunner, "submit")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        kill(SiliconFlowClient, "create_batch", nth=2)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        clock.advance(2000)
        with pytest.raises(BatchTimeoutError, match=r"3 of 6 requests succeeded in 1 round \(3 unfinished\)"):
            run(lambda: infer(requests=sums(6), timeout=1000))
        assert manifest()["complete"] is False
        assert {each["error"]["code"] for each in rows() if each["error"]} == {"not_sent"}
        assert run(lambda: infer(requests=sums(6), timeout=6000))["counts"] == {"succeeded": 6}

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    def test_an_unreadable_batch_ends_one_attempt_only(
        self, infer: Infer, run: Run, control: Control, deferrable: bool
    ) -> None:
        control.fault("GET /batches/{id}", status=404, times=200)
        with pytest.raises(BatchWaitError, match=r"gave up polling batch batch_\w+: "):
            run(lambda: infer(requests=sums(3), deferrable=deferrable))
        control.reset()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}
        assert_nothing_was_bought_twice(control, 3)

    @pytest.mark.parametrize(("rate", "fails"), [(1.0, True), (0.76, True), (0.75, False), (None, False), (0.0, False)])
    def test_the_success_rate_decides_once_everything_is_written(
        self, infer: Infer, run: Run, rows: Rows, control: Control, rate: float | None, fails: bool, logged: Any
    ) -> None:
        control.plan(failing={"positions": [1]})

        def make() -> Any:
            return infer(requests=sums(4), max_rounds=1, min_success_rate=rate)

        if fails:
            with pytest.raises(MissedSuccessRateError, match=r"the success rate is 75\.00%, below"):
                run(make)
        else:
            assert run(make)["success_rate"] == 0.75
            assert (
                "3 of 4 requests succeeded in 1 round (1 failed); most frequent errors: 1 x server_error: The request failed, as "
                "planned. Billed in total: 12 prompt and 3 completion tokens. No batch is running any more. Clearing the "
                "task would resend 1 request without a good answer"
            ) in logged()
        assert statuses(rows()) == ["succeeded", "failed", "succeeded", "succeeded"]

    def test_results_are_read_back_by_status(self, infer: Infer, run: Run, control: Control, tmp_path: Path) -> None:
        control.plan(failing={"positions": [1]})
        summary = run(lambda: infer(requests=sums(3), max_rounds=1, min_success_rate=None))
        assert [each.custom_id for each in read_results(summary, status="failed")] == ["request-000002"]
        assert len(list(read_results(tmp_path / "out", status={"succeeded", "failed"}))) == 3

    def test_a_killed_tasks_batches_are_resumed(
        self, infer: Infer, run: Run, client: SiliconFlowClient, clock: Any, logged: Any
    ) -> None:
        task = infer(requests=sums(3))
        clock.after(50, task.on_kill)
        with pytest.raises(BatchWaitError, match="killed while waiting"):
            run(lambda: task)
        assert "task was killed. Batch" in logged()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}
        assert len(batches(client)) == 1


class TestKilled:
    """What Airflow lets go on for some seconds after it has called `on_kill`."""

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
        # Some seconds after the batch was created, which was some after the job was prepared.
        clock.after(2 * LIST_LAG_SECONDS - 1, task.on_kill)
        with pytest.raises(BatchWaitError, match="task was killed; the next attempt will resume the job"):
            run(lambda: task)
        assert [each.status for each in batches(client)] == [status]
        assert "task was killed: " in logged()

    def test_before_it_submits_it_buys_nothing(
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


def test_nine_failing_parts_have_one_row_each(
    infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any, kill: Any, manifest: Any
) -> None:
    """One part expires, one fails, lines fail, are missing, are repeated, and the worker is killed twice."""
    part_lines(100)
    control.plan(nth=3, end="expired", run_share=0.6)
    control.plan(nth=6, end="failed")
    control.plan(
        every=1, times=7, failing={"share": 0.03, "once": True}, missing={"share": 0.01}, duplicated={"share": 0.02}
    )

    def make() -> Any:
        return infer(requests=sums(850), deferrable=True)

    kill(SiliconFlowClient, "create_batch", nth=5)
    with pytest.raises(Killed):
        run(make)
    kill(Workspace, "publish_json", nth=1)
    with pytest.raises(Killed):
        run(make)
    summary = run(make)
    assert summary["rounds"] == 2
    assert [(each["index"], each["custom_id"], each["content"]) for each in rows()] == [
        (i, f"request-{i + 1:06d}", str(i + 1)) for i in range(850)
    ]
    executions = control.executions()
    assert executions.distinct == 850
    # Only what failed or was missing was run again: of 650 requests 3% and 1%, begun ones of each part counted.
    again = {digest: count for digest, count in executions.counts.items() if count > 1}
    assert set(again.values()) == {2}
    assert 650 * 0.03 <= len(again) <= 650 * 0.04 + 2 * 7
    assert manifest()["duplicates"] > 0


def test_shortened_event_errors_are_complete_on_disk(
    infer: Any, run: Any, control: Control, manifest: Any, tmp_path: Path
) -> None:
    errors = [f"line {number}: not JSON" for number in range(1, 5_001)]
    control.plan(end="failed", errors=errors)
    with pytest.raises(MissedSuccessRateError) as caught:
        run(lambda: infer(requests=["1+1"], deferrable=True, max_rounds=1))
    path = f"{tmp_path}/out/_siliconflow/errors.jsonl"
    assert manifest()["paths"]["errors"] == f"file://{path}"
    assert [json.loads(each)["message"] for each in Path(path).read_text().splitlines()] == errors
    assert f"line 4: not JSON; and 4,996 more. Full texts of shortened errors: file://{path}" in str(caught.value)
    assert len(str(caught.value)) < 2_000
