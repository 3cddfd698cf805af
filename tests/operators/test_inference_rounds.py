"""Whole jobs: only requests without a good answer are resent, in further rounds."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import (
    BatchTimeoutError,
    JobDefinitionError,
    MissedSuccessRateError,
)
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.storage.workspace import Workspace
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, statuses, sums
from tests.kills import Killed

DAY = 24 * 3600


HALF_A_DAY = DAY / 2


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
        assert [row["content"] for row in rows()] == ["1", "2", "3", "4", "5", "6"]
        assert (len(manifest()["batches"]), manifest()["rounds"]) == (4, 3)
        # Nothing is resubmitted after the service has deleted everything.
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
            JobDefinitionError, match=r"is 31 days old, and the service deletes batches after 30.*\nClear the task"
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
            run(lambda: infer(requests=sums(6), poll_interval=3600))
        clock.advance(31 * DAY)
        with pytest.raises(JobDefinitionError, match=r"deleted a batch of round 1 .* 30 days\.\nClear the task"):
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


class TestRounds:
    def test_only_failures_are_sent_again(
        self, infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any, manifest: Any
    ) -> None:
        part_lines(5)
        control.plan(failing={"positions": [1, 3]}, missing={"positions": [4]}, times=2)
        assert run(lambda: infer(requests=sums(10)))["rounds"] == 2
        assert [row["content"] for row in rows()] == [str(i + 1) for i in range(10)]
        assert [row["round"] for row in rows()] == [1, 2, 1, 2, 2] * 2
        assert manifest()["counts"] == {"succeeded": 10}
        assert control.executions().total == 16

    def test_permanent_errors_are_not_resent_when_cleared(
        self, infer: Infer, run: Run, rows: Rows, control: Control, context: Any
    ) -> None:
        control.plan(failing={"positions": [1], "code": "invalid_request", "message": "too long"})
        with pytest.raises(
            MissedSuccessRateError, match=r"(?s)1 x invalid_request: too long.*Clearing the task would resend nothing"
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
        """Requests of a cancelled batch are resent only after the task is cleared."""
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
                MissedSuccessRateError, match=r"66\.67%.*\n2 of 3 requests succeeded in 2 rounds \(1 failed\)"
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
        assert [row["round"] for row in rows()] == [1, 5, 1]

    def test_clearing_resends_cancelled_requests(self, infer: Infer, run: Run, control: Control, context: Any) -> None:
        control.plan(end="cancelled", run_share=0.5)
        with pytest.raises(MissedSuccessRateError, match=r"Clearing the task would resend 3 requests"):
            run(lambda: infer(requests=sums(6)))
        context["ti"].clear()
        assert run(lambda: infer(requests=sums(6)))["counts"] == {"succeeded": 6}
        assert_nothing_was_bought_twice(control, 6)

    def test_unsent_parts_are_submitted_days_later(
        self, infer: Infer, run: Run, control: Control, kill: Any, part_lines: Any, clock: Any
    ) -> None:
        """The window of the first parts has ended by then, but they have answered."""
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
    def test_a_kill_at_any_step_submits_nothing_twice(
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
        """Kills happen between plan and submission of a round, during a merge, and between results and manifest."""
        control.plan(missing={"positions": [1]}, failing={"positions": [2]})
        kill(owner, name, nth=nth, after=after)
        with pytest.raises(Killed):
            run(lambda: infer(requests=sums(4)))
        assert run(lambda: infer(requests=sums(4)))["counts"] == {"succeeded": 4}
        assert [row["content"] for row in rows()] == ["1", "2", "3", "4"]
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
        assert manifest()["tokens"]["prompt"] == sum(row["prompt_tokens"] or 0 for row in rows())


def test_nine_failing_parts_have_one_row_each(
    infer: Infer, run: Run, rows: Rows, control: Control, part_lines: Any, kill: Any, manifest: Any
) -> None:
    """One part expires, one fails, lines fail, are missing or duplicate, and the worker is killed twice."""
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
    assert [(row["index"], row["custom_id"], row["content"]) for row in rows()] == [
        (i, f"request-{i + 1:06d}", str(i + 1)) for i in range(850)
    ]
    executions = control.executions()
    assert executions.distinct == 850
    # Only failed and missing requests were executed again: 3% and 1% of 650, rounded up for each part.
    again = {digest: count for digest, count in executions.counts.items() if count > 1}
    assert set(again.values()) == {2}
    assert 650 * 0.03 <= len(again) <= 650 * 0.04 + 2 * 7
    assert manifest()["duplicates"] > 0
