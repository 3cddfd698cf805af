"""What a person changes or clears while a job is under way: nothing paid for is lost, and nothing is bought twice."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.exceptions import (
    BatchTimeoutError,
    JobDefinitionError,
    MissedSuccessRateError,
    SubmissionStoppedError,
)
from siliconflow_provider.job_directory import JOB, KEPT, REQUESTS, replaced_name
from siliconflow_provider.jobs import opening
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.results import read_results
from siliconflow_provider.storage.workspace import Workspace
from tests.kills import Killed

Infer = Callable[..., Any]
Run = Callable[..., Any]
Rows = Callable[[], list[dict[str, Any]]]
DAY = 24 * 3600


def sums(count: int, start: int = 0) -> list[str]:
    return [f"What is {number} + 1?" for number in range(start, start + count)]


def contents(rows: list[dict[str, Any]]) -> list[Any]:
    return [each["content"] for each in rows]


@pytest.fixture
def retry(context: dict[str, Any]) -> Callable[[], None]:
    """Begins the next try as Airflow does by itself."""

    def begin() -> None:
        context["ti"].try_number += 1

    return begin


@pytest.fixture
def clear(context: dict[str, Any]) -> Callable[..., None]:
    """Begins the next try as a person does; its number of retries is that of the DAG as it is then."""
    return lambda retries=0: context["ti"].clear(retries)


@pytest.fixture
def cancelled(infer: Infer, run: Run, control: Control) -> Callable[..., None]:
    """Runs a job of six requests, three of which are answered before its batch is cancelled."""

    def begin(**arguments: Any) -> None:
        control.plan(end="cancelled", run_share=0.5)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(6), **arguments))

    return begin


class TestRetries:
    """A deploy while the job waits: the definition is another one when the task resumes, or is retried."""

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"system_prompt": "Be brief."}, "system_prompt"),
            ({"model": "Qwen/QwQ-32B", "completion_window": "48h"}, "model, completion_window"),
            ({"submission_key": "again"}, "submission_key"),
        ],
    )
    def test_what_is_answered_lands_before_the_task_fails(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        manifest: Any,
        control: Control,
        kill: Any,
        retry: Any,
        change: dict[str, Any],
        named: str,
        deferrable: bool,
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        retry()
        with pytest.raises(JobDefinitionError, match=rf"^{named} changed since .*job\.json was created") as caught:
            run(lambda: infer(requests=sums(3), deferrable=deferrable, **change))
        assert f"In file://{os.sep}" in str(caught.value)
        assert "out/results.jsonl: 3 of 3 requests succeeded in 1 round. Billed in total: " in str(caught.value)
        assert ("submits all requests again" in str(caught.value)) is (named == "submission_key")
        assert contents(rows()) == ["1", "2", "3"]
        assert (manifest()["complete"], control.batches_created()) == (True, 1)

    def test_a_task_that_resumes_lands_them_too(self, infer: Infer, run: Run, rows: Rows, control: Control) -> None:
        words = iter(["Be brief.", "Be very brief."])
        with pytest.raises(JobDefinitionError, match="system_prompt changed since"):
            run(lambda: infer(requests=sums(3), deferrable=True, system_prompt=next(words)))
        assert contents(rows()) == ["1", "2", "3"]
        assert control.batches_created() == 1

    def test_no_further_round_is_bought(
        self, infer: Infer, run: Run, rows: Rows, control: Control, kill: Any, retry: Any, clear: Any
    ) -> None:
        control.plan(failing={"positions": [1]})
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        for _ in range(2):
            retry()
            with pytest.raises(JobDefinitionError, match=r"2 of 3 requests succeeded in 1 round \(1 failed\)"):
                run(lambda: infer(requests=sums(3), model="m"))
        assert [each["status"] for each in rows()] == ["succeeded", "failed", "succeeded"]
        assert control.batches_created() == 1
        # The change is undone.
        retry()
        assert run(lambda: infer(requests=sums(3)))["counts"] == {"succeeded": 3}

    def test_parts_that_were_not_sent_stay_so(
        self, infer: Infer, run: Run, rows: Rows, control: Control, kill: Any, retry: Any, part_lines: Any
    ) -> None:
        part_lines(3)
        kill(SiliconFlowClient, "create_batch", nth=2)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        retry()
        with pytest.raises(JobDefinitionError, match=r"3 of 6 requests succeeded in 1 round \(3 unfinished\)"):
            run(lambda: infer(requests=sums(6), model="m"))
        assert {each["error"]["code"] for each in rows() if each["error"]} == {"not_sent"}
        assert control.batches_created() == 1

    def test_a_job_without_batches_stops_immediately(
        self, infer: Infer, run: Run, control: Control, kill: Any, retry: Any, tmp_path: Path
    ) -> None:
        kill(JobRunner, "submit")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        retry()
        with pytest.raises(JobDefinitionError, match="model changed since"):
            run(lambda: infer(requests=sums(3), model="m"))
        assert control.batches_created() == 0
        assert not (tmp_path / "out" / "results.jsonl").exists()

    def test_a_list_that_fails_hides_no_batch(
        self, infer: Infer, run: Run, control: Control, kill: Any, retry: Any, tmp_path: Path, rows: Rows
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        for each in (tmp_path / "out" / "_siliconflow" / "creates").iterdir():
            each.unlink()
        retry()
        control.fault("GET /batches", status=400, times=20)
        with pytest.raises(SiliconFlowError):
            run(lambda: infer(requests=sums(3), model="m"))
        control.reset()
        retry()
        with pytest.raises(JobDefinitionError, match="3 of 3 requests succeeded"):
            run(lambda: infer(requests=sums(3), model="m"))
        assert contents(rows()) == ["1", "2", "3"]

    def test_a_deadline_leaves_batches_to_retries(
        self, infer: Infer, run: Run, control: Control, kill: Any, retry: Any
    ) -> None:
        control.plan(run_seconds=5000.0)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        retry()
        with pytest.raises(BatchTimeoutError, match=r"batch_\w+ is still running"):
            run(lambda: infer(requests=sums(3), model="m", timeout=1000))
        retry()
        with pytest.raises(JobDefinitionError, match="3 of 3 requests succeeded"):
            run(lambda: infer(requests=sums(3), model="m", timeout=6000))
        assert control.batches_created() == 1

    def test_what_was_written_as_the_old_type_stays(
        self, infer: Infer, run: Run, rows: Rows, retry: Any, control: Control
    ) -> None:
        """There is nothing left to validate it with."""

        class Answer(BaseModel):
            answer: int

        requests = ["1 + 1", "hello"]
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=requests, output_type=Answer, max_rounds=1))
        before = rows()
        assert [each["status"] for each in before] == ["succeeded", "invalid"]
        retry()
        with pytest.raises(JobDefinitionError, match="output_type changed since"):
            run(lambda: infer(requests=requests, output_type=dict[str, str]))
        assert rows() == before
        assert control.batches_created() == 1


class TestClears:
    """A cleared task whose definition has changed keeps each answer whose request has not."""

    def test_answers_are_kept_and_the_others_sent(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        manifest: Any,
        control: Control,
        cancelled: Any,
        clear: Any,
        logged: Any,
    ) -> None:
        """The window is no part of a request."""
        cancelled()
        before = {each["custom_id"]: each for each in rows() if each["status"] == "succeeded"}
        clear()
        assert run(lambda: infer(requests=sums(6), completion_window="48h"))["counts"] == {"succeeded": 6}
        executions = control.executions()
        assert (executions.distinct, executions.most) == (6, 1)
        assert contents(rows()) == [str(i + 1) for i in range(6)]
        kept = {each["custom_id"]: each for each in rows() if each["round"] == 0}
        assert kept == {name: {**each, "round": 0} for name, each in before.items()}
        assert (manifest()["kept"], manifest()["rounds"], len(manifest()["batches"])) == (3, 1, 1)
        assert (
            "starting a new job, since completion_window changed: reusing 3 answers of the previous job, sending 3 "
            "requests, dropping 0 answers"
        ) in logged()

    def test_the_log_tells_it_before_anything_is_sent(
        self, infer: Infer, run: Run, control: Control, cancelled: Any, clear: Any, logged: Any, kill: Any
    ) -> None:
        cancelled()
        logged()
        clear()
        kill(JobRunner, "submit")
        with pytest.raises(Killed):
            run(lambda: infer(requests=[*sums(2), "9 + 9"], completion_window="48h"))
        assert control.batches_created() == 1
        assert "reusing 2 answers of the previous job, sending 1 request, dropping 1 answer" in logged()

    def test_kept_answers_have_their_new_place_and_name(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control
    ) -> None:
        old = [{"id": f"q{i}", "q": f"{i} + 1"} for i in range(4)]
        run(lambda: infer(requests=old, prompt="{q}", id_column="id"))
        clear()
        new = [{"name": f"n{i}", "q": f"{i} + 1"} for i in (9, 3, 1)]
        run(lambda: infer(requests=new, prompt="{q}", id_column="name"))
        shown = [(each["index"], each["custom_id"], each["content"], each["round"], each["input"]) for each in rows()]
        assert shown == [
            (0, "n9", "10", 1, new[0]),
            (1, "n3", "4", 0, new[1]),
            (2, "n1", "2", 0, new[2]),
        ]
        assert control.executions().total == 5

    @pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "on the worker"])
    def test_where_all_is_answered_nothing_is_sent(
        self, infer: Infer, run: Run, rows: Rows, manifest: Any, clear: Any, control: Control, deferrable: bool
    ) -> None:
        run(lambda: infer(requests=sums(3)))
        clear()
        summary = run(lambda: infer(requests=sums(3), completion_window="48h", deferrable=deferrable))
        assert (summary["counts"], summary["tokens"]) == ({"succeeded": 3}, {"prompt": 0, "completion": 0})
        assert contents(rows()) == ["1", "2", "3"]
        assert (control.batches_created(), manifest()["kept"], manifest()["batches"]) == (1, 3, [])
        # A further try finds the same.
        assert run(lambda: infer(requests=sums(3), completion_window="48h"))["counts"] == {"succeeded": 3}

    def test_another_submission_key_buys_everything_anew(
        self, infer: Infer, run: Run, clear: Any, control: Control, manifest: Any
    ) -> None:
        run(lambda: infer(requests=sums(3)))
        clear()
        run(lambda: infer(requests=sums(3), submission_key="again"))
        assert (control.executions().most, manifest()["kept"]) == (2, 0)

    def test_equal_requests_keep_different_answers(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control
    ) -> None:
        """Somebody may want several answers to one question."""
        run(lambda: infer(requests=["1 + 1", "1 + 1", "2 + 1"]))
        clear()
        run(lambda: infer(requests=["1 + 1", "2 + 1", "1 + 1", "1 + 1"], completion_window="48h"))
        assert [each["round"] for each in rows()] == [0, 0, 0, 1]
        assert contents(rows()) == ["2", "3", "2", "2"]

    def test_answers_are_validated_by_the_current_type(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control
    ) -> None:
        """Types of one schema may check more than it says."""

        def checked(limit: int) -> Any:
            class Answer(BaseModel):
                answer: int

                def model_post_init(self, context: Any, /) -> None:
                    if self.answer > limit:
                        raise ValueError("too large")

            return Answer

        run(lambda: infer(requests=sums(3), output_type=checked(9)))
        clear()
        run(
            lambda: infer(
                requests=sums(3), output_type=checked(2), completion_window="48h", min_success_rate=0, max_rounds=1
            )
        )
        assert [(each["round"], each["status"]) for each in rows()] == [
            (0, "succeeded"),
            (0, "succeeded"),
            (1, "invalid"),
        ]
        assert [each.get("output") for each in rows()] == [{"answer": 1}, {"answer": 2}, None]

    def test_answers_that_had_not_landed_are_fetched_first(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, clock: Any, rows: Rows, part_lines: Any
    ) -> None:
        part_lines(3)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        clock.advance(200)
        clear()
        run(lambda: infer(requests=sums(5), completion_window="48h"))
        assert (control.batches_created(), control.executions().most) == (2, 1)
        assert contents(rows()) == ["1", "2", "3", "4", "5"]

    def test_a_batch_that_runs_is_named_and_left(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, logged: Any, client: SiliconFlowClient
    ) -> None:
        control.plan(run_seconds=5000.0)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        (running,) = client.list_batches()
        clear()
        run(lambda: infer(requests=sums(3), completion_window="48h"))
        said = logged()
        assert f"the previous job's batch {running.id} (in_progress) is still running" in said
        assert f"client.cancel_batch({running.id!r})" in said
        assert f"Batch {running.id} of an earlier job of this task is still running" in said
        assert "No batch is running any more" not in said
        assert client.get_batch(running.id).status == "in_progress"

    def test_one_of_another_submission_key_is_still_told(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, logged: Any, clock: Any
    ) -> None:
        control.plan(run_seconds=5000.0)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        clear()
        run(lambda: infer(requests=sums(3), submission_key="again"))
        assert "No batch is running any more" not in logged()
        clock.advance(5000)
        run(lambda: infer(requests=sums(3), submission_key="again"))
        assert "No batch is running any more" in logged()

    def test_running_batches_of_a_lost_job_are_named(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, logged: Any, tmp_path: Path
    ) -> None:
        control.plan(run_seconds=5000.0)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        (tmp_path / "out" / JOB).unlink()
        clear()
        run(lambda: infer(requests=sums(3), submission_key="again"))
        assert "No batch is running any more" not in logged()

    def test_a_part_that_runs_is_taken_over(
        self, infer: Infer, run: Run, rows: Rows, control: Control, kill: Any, clear: Any, clock: Any, part_lines: Any
    ) -> None:
        """Also where answers are kept beside it."""
        part_lines(3)
        control.plan(nth=1, missing={"positions": [1]}, run_seconds=100.0)
        control.plan(nth=2, run_seconds=5000.0)
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6)))
        clock.advance(300)
        clear()
        run(lambda: infer(requests=[*sums(6), "7 + 7"], id_column="id"))
        assert contents(rows()) == ["1", "2", "3", "4", "5", "6", "14"]
        # What was run and is missing, and what is new.
        assert (control.batches_created(), control.executions().total) == (3, 6 + 2)

    def test_a_failed_part_is_resent_immediately(
        self, infer: Infer, run: Run, control: Control, clear: Any, part_lines: Any
    ) -> None:
        """It is the verdict of the job before."""
        part_lines(3)
        control.plan(nth=2, end="failed")
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(6), max_rounds=1))
        clear()
        summary = run(lambda: infer(requests=sums(6), max_rounds=1, id_column="id"))
        assert (summary["counts"], summary["rounds"]) == ({"succeeded": 6}, 1)
        assert control.executions().most == 1

    def test_kept_answers_are_kept_once_more(
        self, infer: Infer, run: Run, rows: Rows, control: Control, cancelled: Any, clear: Any
    ) -> None:
        cancelled()
        for window in ("48h", "72h", "96h"):
            clear()
            run(lambda window=window: infer(requests=sums(6), completion_window=window))
        assert (control.batches_created(), control.executions().most) == (2, 1)
        assert {each["round"] for each in rows()} == {0}

    def test_rounds_after_it_send_what_failed(
        self, infer: Infer, run: Run, rows: Rows, control: Control, cancelled: Any, clear: Any
    ) -> None:
        cancelled()
        clear()
        control.plan(failing={"positions": [0, 2]})
        assert run(lambda: infer(requests=sums(6), completion_window="48h"))["counts"] == {"succeeded": 6}
        assert Counter(each["round"] for each in rows()) == {0: 3, 1: 1, 2: 2}
        assert contents(rows()) == [str(i + 1) for i in range(6)]

    @pytest.mark.parametrize(
        ("owner", "name", "nth", "after"),
        [
            *((Workspace, "publish", nth, after) for nth in range(1, 10) for after in (False, True)),
            (opening, "hand_over", 1, True),
            (JobRunner, "submit", 1, False),
            (JobRunner, "submit", 1, True),
            (SiliconFlowClient, "create_batch", 1, True),
            (SiliconFlowClient, "download", 1, True),
        ],
    )
    def test_a_crash_at_any_step_buys_nothing_twice(
        self,
        infer: Infer,
        run: Run,
        rows: Rows,
        control: Control,
        cancelled: Any,
        clear: Any,
        retry: Any,
        kill: Any,
        owner: Any,
        name: str,
        nth: int,
        after: bool,
    ) -> None:
        cancelled()
        clear(retries=3)
        kill(owner, name, nth=nth, after=after)

        def make() -> Any:
            return infer(requests=[*sums(6), "8 + 8"], completion_window="48h", retries=3)

        try:
            run(make)
        except Killed:
            retry()
            try:
                run(make)
            except JobDefinitionError:
                # It died before the new job was there: that is again a person's decision.
                assert control.batches_created() == 1
                clear(retries=3)
                run(make)
        assert contents(rows()) == ["1", "2", "3", "4", "5", "6", "16"]
        executions = control.executions()
        assert (executions.distinct, executions.most) == (7, 1)

    def test_requests_that_are_gone_stop_it(
        self, infer: Infer, run: Run, control: Control, cancelled: Any, clear: Any, tmp_path: Path
    ) -> None:
        """Without them nothing tells which answers to keep."""
        cancelled()
        (tmp_path / "out" / REQUESTS).unlink()
        clear()
        with pytest.raises(RequestsLostError, match=r"requests\.jsonl is missing"):
            run(lambda: infer(requests=sums(6), completion_window="48h"))
        assert control.batches_created() == 1

    def test_kept_answers_that_are_gone_stop_it(
        self,
        infer: Infer,
        run: Run,
        control: Control,
        cancelled: Any,
        clear: Any,
        tmp_path: Path,
        kill: Any,
        retry: Any,
    ) -> None:
        cancelled()
        clear()
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(6), completion_window="48h"))
        (path,) = (tmp_path / "out" / "_siliconflow").glob(f"*/{Path(KEPT).name}")
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
        retry()
        with pytest.raises(RequestsLostError, match=r"kept\.jsonl is missing or truncated; restore it"):
            run(lambda: infer(requests=sums(6), completion_window="48h"))

    def test_bad_items_leave_the_job_before(
        self, infer: Infer, run: Run, rows: Rows, control: Control, cancelled: Any, clear: Any, tmp_path: Path
    ) -> None:
        cancelled()
        before, job = rows(), (tmp_path / "out" / JOB).read_bytes()
        clear()
        with pytest.raises(ValueError, match="1 of 1 item is invalid"):
            run(lambda: infer(requests=[7], completion_window="48h"))
        assert (rows(), (tmp_path / "out" / JOB).read_bytes()) == (before, job)


class TestReplacedResults:
    def test_answers_are_kept_by_job_id(
        self, infer: Infer, run: Run, rows: Rows, manifest: Any, clear: Any, tmp_path: Path, logged: Any
    ) -> None:
        kept: dict[str, list[Any]] = {}
        for count, window in ((3, "24h"), (4, "48h"), (5, "72h")):
            run(lambda count=count, window=window: infer(requests=sums(count), completion_window=window))
            kept[manifest()["job_id"]] = contents(rows())
            clear()
        newest = manifest()["job_id"]
        assert contents(rows()) == kept.pop(newest)
        for job_id, answers in kept.items():
            directory = tmp_path / "out" / replaced_name("", job_id)
            assert [each.content for each in read_results(directory)] == answers
            assert json.loads((directory / "manifest.json").read_text())["job_id"] == job_id
            assert f"kept the previous results as file://{directory / 'results.jsonl'}" in logged()
        assert not (tmp_path / "out" / replaced_name("", newest)).exists()

    @pytest.mark.parametrize("nth", range(1, 6))
    @pytest.mark.parametrize("after", [True, False])
    def test_a_crash_while_they_are_replaced_loses_none(
        self,
        infer: Infer,
        run: Run,
        clear: Any,
        manifest: Any,
        rows: Rows,
        tmp_path: Path,
        kill: Any,
        nth: int,
        after: bool,
    ) -> None:
        run(lambda: infer(requests=sums(3)))
        job_id, answers = manifest()["job_id"], rows()
        clear()
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(4), completion_window="48h"))
        kill(Workspace, "publish", nth=nth, after=after)
        try:
            run(lambda: infer(requests=sums(4), completion_window="48h"))
        except Killed:
            run(lambda: infer(requests=sums(4), completion_window="48h"))
        kept = tmp_path / "out" / replaced_name("results.jsonl", job_id)
        assert [json.loads(each) for each in kept.read_text().splitlines()] == answers
        assert contents(rows()) == ["1", "2", "3", "4"]

    def test_in_an_object_store(
        self, infer: Infer, run: Run, clear: Any, object_store: str, tmp_path: Path, context: Any, control: Control
    ) -> None:
        context["ti"].run_id = tmp_path.name
        path = f"{object_store}/{tmp_path.name}"
        run(lambda: infer(requests=sums(3), output_path=path))
        clear()
        summary = run(lambda: infer(requests=sums(4), output_path=path, completion_window="48h"))
        assert [each.content for each in read_results(summary)] == ["1", "2", "3", "4"]
        assert control.executions().most == 1


class TestInput:
    """A file of rows that was mended, or only touched, after the job was made of it."""

    @pytest.fixture(params=["in.jsonl", "in.jsonl.gz"])
    def write(self, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[list[str]], Path]:
        path = tmp_path / request.param

        def put(questions: list[str]) -> Path:
            content = "".join(json.dumps({"q": each}) + "\n" for each in questions).encode()
            path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
            return path

        return put

    def test_a_cleared_task_sends_what_was_mended(
        self, infer: Infer, run: Run, rows: Rows, write: Any, control: Control, clear: Any
    ) -> None:
        path = write(["1 + 1", "1 +", "3 + 1"])
        run(lambda: infer(input_path=str(path), prompt="{q}"))
        write(["1 + 1", "1 + 2", "3 + 1"])
        clear()
        run(lambda: infer(input_path=str(path), prompt="{q}"))
        assert [(each["round"], each["content"], each["input"]["q"]) for each in rows()] == [
            (0, "2", "1 + 1"),
            (1, "3", "1 + 2"),
            (0, "4", "3 + 1"),
        ]
        assert control.executions().total == 4

    def test_a_file_that_was_only_touched_costs_nothing(
        self, infer: Infer, run: Run, rows: Rows, write: Any, control: Control, clear: Any
    ) -> None:
        path = write(["1 + 1", "2 + 1"])
        run(lambda: infer(input_path=str(path), prompt="{q}"))
        os.utime(path, (1, 1))
        clear()
        assert run(lambda: infer(input_path=str(path), prompt="{q}"))["counts"] == {"succeeded": 2}
        assert contents(rows()) == ["2", "3"]
        assert control.batches_created() == 1

    def test_a_retry_lands_what_was_sent(
        self, infer: Infer, run: Run, rows: Rows, write: Any, control: Control, kill: Any, retry: Any
    ) -> None:
        path = write(["1 + 1", "1 +"])
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(input_path=str(path), prompt="{q}"))
        write(["1 + 1", "1 + 2"])
        retry()
        with pytest.raises(JobDefinitionError, match=r"^the file at input_path changed since"):
            run(lambda: infer(input_path=str(path), prompt="{q}"))
        assert (contents(rows())[0], control.batches_created()) == ("2", 1)


class TestOtherAccount:
    def test_a_retry_that_finds_its_batches_gone_stops(
        self,
        infer: Infer,
        run: Run,
        emulator: Emulator,
        options: EmulatorOptions,
        clock: Any,
        kill: Any,
        retry: Any,
        tmp_path: Path,
    ) -> None:
        """The same service, with a key of an account that has no batches."""
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3)))
        (batch,) = SiliconFlowClient(emulator.api_key, emulator.base_url).list_batches()
        emulator.stop()
        port = int(emulator.base_url.rpartition(":")[2].removesuffix("/v1"))
        with Emulator(
            replace(options, port=port, storage_port=0, data_dir=tmp_path / "other account"), clock=clock
        ) as other:
            retry()
            with pytest.raises(
                SubmissionStoppedError, match=rf"\({batch.id}\) are not in the account of the connection"
            ):
                run(lambda: infer(requests=sums(3)))
            assert other.control.batches_created() == 0


class TestClearsAreSeen:
    def test_each_of_five_with_fewer_retries(
        self, infer: Infer, run: Run, control: Control, context: Any, clear: Any, clock: Any
    ) -> None:
        """The fifth sets the number of tries that there was at first."""
        context["ti"].max_tries = 5
        control.plan(failing={"positions": [0]}, times=6)
        for created, retries in zip(range(1, 7), (5, 0, 0, 0, 0, 0), strict=True):
            with pytest.raises(MissedSuccessRateError):
                run(lambda retries=retries: infer(requests=sums(3), max_rounds=1, retries=retries, timeout=900))
            assert control.batches_created() == created
            # What was created before has no part in the next one's time.
            clock.advance(3600)
            clear(retries=0)
        assert context["ti"].max_tries == 6
        assert run(lambda: infer(requests=sums(3), max_rounds=1))["counts"] == {"succeeded": 3}

    def test_a_changed_job_after_five_too(
        self, infer: Infer, run: Run, control: Control, context: Any, clear: Any
    ) -> None:
        context["ti"].max_tries = 5
        control.plan(failing={"positions": [0]}, times=5)
        for _ in range(5):
            with pytest.raises(MissedSuccessRateError):
                run(lambda: infer(requests=sums(3), max_rounds=1))
            clear(retries=0)
        assert context["ti"].max_tries == 5
        assert run(lambda: infer(requests=sums(3), completion_window="48h"))["counts"] == {"succeeded": 3}

    def test_a_clear_during_the_wait_does_not_count(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, retry: Any, clock: Any
    ) -> None:
        """Its batch ended after the clear, and nobody has decided about that."""
        control.plan(failing={"positions": [1]})
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), max_rounds=1, retries=3))
        clear(retries=3)
        kill(JobRunner, "submit")
        kill(JobRunner, "__init__")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), max_rounds=1, retries=3))
        retry()
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(3), max_rounds=1, retries=3))
        assert control.batches_created() == 1

    def test_nor_for_a_retry_of_another_definition(
        self, infer: Infer, run: Run, control: Control, kill: Any, clear: Any, retry: Any
    ) -> None:
        kill(JobRunner, "submit", after=True)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), retries=3))
        clear(retries=3)
        kill(JobRunner, "__init__")
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(3), retries=3))
        retry()
        with pytest.raises(JobDefinitionError, match="3 of 3 requests succeeded"):
            run(lambda: infer(requests=sums(3), model="m", retries=3))
        assert control.batches_created() == 1
