"""A changed task is cleared: good answers are kept, and only the other requests are sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import (
    JobDefinitionError,
    MissedSuccessRateError,
)
from siliconflow_provider.job_directory import JOB, KEPT, REQUESTS, replaced_name
from siliconflow_provider.jobs import opening
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.results import read_results
from siliconflow_provider.storage.workspace import Workspace
from tests.inference_jobs import Infer, Rows, Run, contents, sums
from tests.kills import Killed


@pytest.fixture
def cancelled(infer: Infer, run: Run, control: Control) -> Callable[..., None]:
    """Run a job of six requests. Three are answered before its batch is cancelled."""

    def begin(**arguments: Any) -> None:
        control.plan(end="cancelled", run_share=0.5)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: infer(requests=sums(6), **arguments))

    return begin


class TestClears:
    """A cleared task with a changed definition keeps the answers of unchanged requests."""

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
        """The completion window is not part of a request."""
        cancelled()
        before = {row["custom_id"]: row for row in rows() if row["status"] == "succeeded"}
        clear()
        assert run(lambda: infer(requests=sums(6), completion_window="48h"))["counts"] == {"succeeded": 6}
        executions = control.executions()
        assert (executions.distinct, executions.most) == (6, 1)
        assert contents(rows()) == [str(i + 1) for i in range(6)]
        kept = {row["custom_id"]: row for row in rows() if row["round"] == 0}
        assert kept == {name: {**item, "round": 0} for name, item in before.items()}
        assert (manifest()["kept"], manifest()["rounds"], len(manifest()["batches"])) == (3, 1, 1)
        assert (
            "starting a new job, since completion_window changed: reusing 3 answers of previous jobs, sending 3 "
            "requests, dropping 0 answers"
        ) in logged()

    def test_the_reuse_is_logged_before_submitting(
        self, infer: Infer, run: Run, control: Control, cancelled: Any, clear: Any, logged: Any, kill: Any
    ) -> None:
        cancelled()
        logged()
        clear()
        kill(JobRunner, "submit")
        with pytest.raises(Killed):
            run(lambda: infer(requests=[*sums(2), "9 + 9"], completion_window="48h"))
        assert control.batches_created() == 1
        assert "reusing 2 answers of previous jobs, sending 1 request, dropping 1 answer" in logged()

    def test_kept_answers_have_their_new_place_and_name(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control
    ) -> None:
        old = [{"id": f"q{i}", "q": f"{i} + 1"} for i in range(4)]
        run(lambda: infer(requests=old, prompt="{q}", id_column="id"))
        clear()
        new = [{"name": f"n{i}", "q": f"{i} + 1"} for i in (9, 3, 1)]
        run(lambda: infer(requests=new, prompt="{q}", id_column="name"))
        shown = [(row["index"], row["custom_id"], row["content"], row["round"], row["input"]) for row in rows()]
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
        assert (summary["counts"], summary["tokens"]) == ({"succeeded": 3}, {"prompt": 0, "completion": 0, "cached": 0})
        assert contents(rows()) == ["1", "2", "3"]
        assert (control.batches_created(), manifest()["kept"], manifest()["batches"]) == (1, 3, [])
        # Another try has the same result.
        assert run(lambda: infer(requests=sums(3), completion_window="48h"))["counts"] == {"succeeded": 3}

    def test_another_submission_key_resubmits_everything(
        self, infer: Infer, run: Run, clear: Any, control: Control, manifest: Any
    ) -> None:
        run(lambda: infer(requests=sums(3)))
        clear()
        run(lambda: infer(requests=sums(3), submission_key="again"))
        assert (control.executions().most, manifest()["kept"]) == (2, 0)

    @pytest.mark.parametrize("between", [["7 + 7", "1 + 1"], ["2 + 1", "1 + 1"]], ids=["others", "the same"])
    def test_an_undone_change_buys_nothing_again(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control, between: list[str]
    ) -> None:
        """Not even where requests are equal."""
        first = ["1 + 1", "2 + 1", "1 + 1"]
        for requests, window in ((first, "24h"), (between, "48h"), (first, "24h")):
            summary = run(lambda requests=requests, window=window: infer(requests=requests, completion_window=window))
            clear()
        assert (summary["counts"], summary["tokens"]["prompt"]) == ({"succeeded": 3}, 0)
        assert contents(rows()) == ["2", "3", "2"]
        assert control.executions().most == 2

    def test_an_older_answer_is_no_second_one(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control
    ) -> None:
        """The job in between kept it."""
        for count, window in ((1, "24h"), (1, "48h"), (2, "24h")):
            run(lambda count=count, window=window: infer(requests=["1 + 1"] * count, completion_window=window))
            clear()
        assert [row["round"] for row in rows()] == [0, 1]

    @pytest.mark.parametrize("name", ["results.jsonl", "job.json"])
    def test_a_damaged_older_job_is_ignored(
        self, infer: Infer, run: Run, clear: Any, control: Control, tmp_path: Path, name: str
    ) -> None:
        run(lambda: infer(requests=sums(2)))
        clear()
        run(lambda: infer(requests=["7 + 7"], completion_window="48h"))
        (damaged,) = tmp_path.glob(f"out/_siliconflow/replaced/*/{name}")
        damaged.write_text("{damaged\n")
        clear()
        assert run(lambda: infer(requests=sums(2)))["counts"] == {"succeeded": 2}
        assert control.executions().most == 2

    def test_equal_requests_keep_different_answers(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control
    ) -> None:
        """A user may want several answers to one question."""
        run(lambda: infer(requests=["1 + 1", "1 + 1", "2 + 1"]))
        clear()
        run(lambda: infer(requests=["1 + 1", "2 + 1", "1 + 1", "1 + 1"], completion_window="48h"))
        assert [row["round"] for row in rows()] == [0, 0, 0, 1]
        assert contents(rows()) == ["2", "3", "2", "2"]

    def test_answers_are_validated_by_the_current_type(
        self, infer: Infer, run: Run, rows: Rows, clear: Any, control: Control
    ) -> None:
        """Types with equal schemas may have different validators."""

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
        assert [(row["round"], row["status"]) for row in rows()] == [
            (0, "succeeded"),
            (0, "succeeded"),
            (1, "invalid"),
        ]
        assert [row.get("output") for row in rows()] == [{"answer": 1}, {"answer": 2}, None]

    def test_unwritten_answers_are_downloaded_first(
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
        assert f"python -m siliconflow_provider cancel {running.id}" in said
        assert f"Batch {running.id} of an earlier job of this task is still running" in said
        assert "No batch is running any more" not in said
        assert client.get_batch(running.id).status == "in_progress"

    def test_running_batches_of_another_key_are_named(
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

    def test_a_running_part_is_resumed(
        self, infer: Infer, run: Run, rows: Rows, control: Control, kill: Any, clear: Any, clock: Any, part_lines: Any
    ) -> None:
        """This holds even if other answers are kept."""
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
        # Executed but missing requests, and new ones.
        assert (control.batches_created(), control.executions().total) == (3, 6 + 2)

    def test_a_failed_part_is_resent_immediately(
        self, infer: Infer, run: Run, control: Control, clear: Any, part_lines: Any
    ) -> None:
        """The failure belongs to the previous job."""
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
        assert {row["round"] for row in rows()} == {0}

    def test_later_rounds_resend_failed_requests(
        self, infer: Infer, run: Run, rows: Rows, control: Control, cancelled: Any, clear: Any
    ) -> None:
        cancelled()
        clear()
        control.plan(failing={"positions": [0, 2]})
        assert run(lambda: infer(requests=sums(6), completion_window="48h"))["counts"] == {"succeeded": 6}
        assert Counter(row["round"] for row in rows()) == {0: 3, 1: 1, 2: 2}
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
    def test_a_crash_at_any_step_submits_nothing_twice(
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
                # It was killed before the new job existed, so a user must decide again.
                assert control.batches_created() == 1
                clear(retries=3)
                run(make)
        assert contents(rows()) == ["1", "2", "3", "4", "5", "6", "16"]
        executions = control.executions()
        assert (executions.distinct, executions.most) == (7, 1)

    def test_missing_requests_stop_it(
        self, infer: Infer, run: Run, control: Control, cancelled: Any, clear: Any, tmp_path: Path
    ) -> None:
        """Without them it is unknown which answers to keep."""
        cancelled()
        (tmp_path / "out" / REQUESTS).unlink()
        clear()
        with pytest.raises(RequestsLostError, match=r"requests\.jsonl is missing"):
            run(lambda: infer(requests=sums(6), completion_window="48h"))
        assert control.batches_created() == 1

    def test_missing_kept_answers_stop_it(
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
            assert [row.content for row in read_results(directory)] == answers
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
        assert [json.loads(line) for line in kept.read_text().splitlines()] == answers
        assert contents(rows()) == ["1", "2", "3", "4"]

    def test_in_an_object_store(
        self, infer: Infer, run: Run, clear: Any, object_store: str, tmp_path: Path, context: Any, control: Control
    ) -> None:
        context["ti"].run_id = tmp_path.name
        path = f"{object_store}/{tmp_path.name}"
        run(lambda: infer(requests=sums(3), output_path=path))
        clear()
        summary = run(lambda: infer(requests=sums(4), output_path=path, completion_window="48h"))
        assert [row.content for row in read_results(summary)] == ["1", "2", "3", "4"]
        assert control.executions().most == 1
