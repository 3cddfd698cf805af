from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.batches.creation import LIST_LAG_SECONDS
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.job_directory import JobFilesError
from siliconflow_provider.jobs.job import PlannedRound, Round
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.outputs.ownership import OutputConflictError
from siliconflow_provider.storage.workspace import Workspace

Attempt = Callable[..., JobRunner]
HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def forms() -> Forms:
    return Forms(result_ids=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def cleared(wanted: Submission) -> Submission:
    return replace(wanted, max_tries=wanted.max_tries + 1, is_cleared_try=True)


@pytest.fixture
def answered(attempt: Attempt, clock: Any) -> Callable[..., JobRunner]:
    """Resume the job once its newest round is over."""

    def make(*arguments: Any, **options: Any) -> JobRunner:
        runner = attempt(*arguments, **options)
        runner.submit(runner.parts)
        clock.advance(200)
        return attempt(*arguments, **options)

    return make


def sent(out: Path, number: int) -> list[str]:
    return [
        json.loads(line)["custom_id"]
        for line in (out / "_siliconflow" / f"round-{number}.jsonl").read_text().splitlines()
    ]


def plan(files: Workspace, job_id: str, number: int, max_tries: int = 2) -> None:
    files.publish_json(
        f"_siliconflow/round-{number}.json", PlannedRound(job_id, Round(number, [], max_tries, 1_800_000_000))
    )


class TestPlans:
    """Rounds in the job's files; the account has no batches."""

    @pytest.fixture
    def client(self, account: SiliconFlowClient) -> SiliconFlowClient:
        return account

    @pytest.mark.parametrize(
        ("tries", "now", "max_rounds", "left", "is_cleared"),
        [
            ([2], 2, 1, 0, False),
            ([2], 2, 2, 1, False),
            ([2, 2], 2, 2, 0, False),
            ([2, 2], 2, 1, -1, False),
            # Clearing allows all rounds again, once.
            ([2], 3, 1, 1, True),
            ([2, 2], 3, 2, 2, True),
            ([2, 2, 3], 3, 2, 1, False),
            ([2, 2, 3, 3], 3, 2, 0, False),
            ([2, 3, 3], 9, 1, 1, True),
            # The task was cleared, but this attempt, which is about to end, does not know.
            ([3], 2, 2, 1, False),
            # Clears that set the same numbers as earlier ones.
            ([5, 1, 2, 3, 4], 5, 1, 1, True),
            ([5, 1, 2, 3, 4, 5], 5, 1, 0, False),
            ([5, 5, 1], 5, 2, 2, True),
        ],
    )
    def test_rounds_count_from_the_last_clear(
        self,
        attempt: Attempt,
        workspace: Callable[[], Workspace],
        wanted: Submission,
        tries: list[int],
        now: int,
        max_rounds: int,
        left: int,
        is_cleared: bool,
    ) -> None:
        first, *later = tries
        job = attempt(submission=replace(wanted, max_tries=first)).job
        for number, each in enumerate(later, start=2):
            plan(workspace(), job.id, number, each)
        runner = attempt(submission=replace(wanted, max_tries=now, is_cleared_try=is_cleared), max_rounds=max_rounds)
        assert len(runner.rounds) == len(tries)
        assert (runner.rounds_left, runner.is_cleared) == (left, is_cleared)

    def test_rounds_of_other_jobs_are_ignored(self, attempt: Attempt, workspace: Callable[[], Workspace]) -> None:
        job = attempt().job
        plan(workspace(), "of another", 2)
        plan(workspace(), job.id, 3)
        assert [round_.number for round_ in attempt().rounds] == [1]

    def test_another_attempts_plan_replaces_another_jobs(
        self, attempt: Attempt, workspace: Callable[[], Workspace], out: Path
    ) -> None:
        """This happens if a task was cleared with another definition."""
        attempt()
        plan(workspace(), "of another", 2)
        one, other = attempt(), attempt()
        other.plan_round([0])
        one.plan_round([0, 1])
        assert (one.rounds, sent(out, 2)) == (other.rounds, ["request-000001"])

    def test_the_plan_is_published_last(self, attempt: Attempt, out: Path) -> None:
        """Once it exists, its requests exist too."""
        runner = attempt()
        (out / "_siliconflow" / "round-2.jsonl").mkdir()
        with pytest.raises(OSError, match=r"round-2\.jsonl"):
            runner.plan_round([0])
        assert not (out / "_siliconflow" / "round-2.json").exists()
        assert len(attempt().rounds) == 1


class TestRounds:
    def test_a_round_resends_only_unanswered_requests(
        self, answered: Any, attempt: Attempt, control: Control, out: Path, part_lines: Any
    ) -> None:
        part_lines(2)
        control.plan(failing={"custom_ids": ["request-000002", "request-000004", "request-000005"]}, times=3)
        runner = answered(6)
        assert runner.retryable is None
        runner.collect()
        assert runner.retryable == [1, 3, 4]
        runner.plan_round(runner.retryable)
        assert runner.retryable is None
        lines = (out / "_siliconflow" / "requests.jsonl").read_bytes().splitlines()
        assert (out / "_siliconflow" / "round-2.jsonl").read_bytes().splitlines() == [
            lines[index] for index in (1, 3, 4)
        ]
        planned = attempt().rounds[1]
        assert (planned.number, planned.indexes, [part.lines for part in planned.parts]) == (2, [1, 3, 4], [2, 1])
        assert runner.rounds == attempt().rounds

    def test_a_concurrently_planned_round_is_resumed(
        self, answered: Any, attempt: Attempt, control: Control, out: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        control.plan(failing={"positions": [0, 1]})
        one, other = answered(), attempt()
        other.plan_round([0])
        other.submit(other.parts)
        one.collect()
        one.plan_round([0, 1])
        assert (one.rounds, sent(out, 2)) == (other.rounds, ["request-000001"])
        assert (len(one.batches), one.parts) == (1, other.parts)
        assert "resuming round 2, which another attempt planned at the same time" in caplog.text

    def test_a_rounds_missing_request_file_is_an_error(self, answered: Any, out: Path) -> None:
        runner = answered()
        runner.plan_round([0])
        (out / "_siliconflow" / "round-2.jsonl").unlink()
        with pytest.raises(RequestsLostError, match=r"out/_siliconflow/round-2\.jsonl is missing"):
            answered()


class TestSubmit:
    @pytest.mark.parametrize(
        ("age", "is_cleared", "stops"),
        [(30 * DAY, False, False), (30 * DAY + 60, False, True), (30 * DAY + 60, True, False), (99 * DAY, True, False)],
    )
    def test_an_old_round_is_submitted_only_once_cleared(
        self,
        attempt: Attempt,
        clock: Any,
        cleared: Submission,
        wanted: Submission,
        age: int,
        is_cleared: bool,
        stops: bool,
    ) -> None:
        attempt()
        # The round is planned at a full second.
        clock.advance(age - LIST_LAG_SECONDS - 0.25)
        runner = attempt(submission=cleared if is_cleared else wanted)
        if stops:
            with pytest.raises(JobFilesError, match=r"round 1 of .*job\.json is 30 days old, and the service deletes"):
                runner.submit(runner.parts)
        else:
            runner.submit(runner.parts)
        assert len(runner.batches) == (0 if stops else 1)

    def test_the_age_is_that_of_the_newest_round(self, answered: Any, attempt: Attempt, clock: Any) -> None:
        runner = answered()
        clock.advance(25 * DAY)
        runner.plan_round([0])
        clock.advance(25 * DAY)
        again = attempt()
        again.submit(again.parts)
        assert len(again.batches) == 1

    def test_a_late_duplicate_is_cancelled_before_the_wait(
        self, attempt: Attempt, client: SiliconFlowClient, clock: Any
    ) -> None:
        one, other = attempt(), attempt()

        def meanwhile() -> None:
            other.submit(other.parts)

        clock.after(4, meanwhile)
        one.submit(one.parts)
        running = [batch.id for batch in client.list_batches() if batch.status == "in_progress"]
        assert [batch.id for batch in one.batches.values()] == [batch.id for batch in other.batches.values()] == running

    def test_the_timeout_counts_from_the_first_batch(self, attempt: Attempt, clock: Any, part_lines: Any) -> None:
        part_lines(1)
        runner = attempt()
        assert runner._limits.started_at is None
        started = int(clock.now)
        runner.submit(runner.parts[:1])
        clock.advance(HOUR)
        runner = attempt()
        runner.submit(runner.parts[1:])
        assert runner._limits.started_at is not None
        assert runner._limits.started_at.int_timestamp == started


class TestFinish:
    def test_published_results_are_those_collected(self, answered: Any, control: Control, out: Path) -> None:
        control.plan(failing={"positions": [1], "message": "try later"})
        runner = answered()
        runner.collect()
        downloads = control.answers()["GET /files/{id}/content"].total()
        manifest = runner.finish(complete=True)
        assert manifest["errors"] == [
            {"code": "server_error", "message": "try later", "count": 1, "first_custom_id": "request-000002"}
        ]
        assert (manifest["counts"], manifest["rounds"]) == ({"succeeded": 2, "failed": 1}, 1)
        assert runner.count_resent_when_cleared() == 1
        assert runner.finish(complete=True) == manifest
        assert control.answers()["GET /files/{id}/content"].total() == downloads == 2
        rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        assert [row["content"] for row in rows] == ["1", None, "3"]

    def test_ignored_lines_are_logged(self, answered: Any, control: Control, caplog: pytest.LogCaptureFixture) -> None:
        control.plan(duplicated={"positions": [0]}, unknown_ids=2)
        answered().collect()
        assert "ignored 1 duplicate line and 2 lines with unknown custom_ids" in caplog.text

    @pytest.mark.parametrize(
        ("age", "window", "lands"),
        [
            (DAY, "24h", False),
            (29 * DAY - 2 * HOUR, "24h", False),
            (29 * DAY - HOUR, "24h", True),
            (16 * DAY - 2 * HOUR, "336h", False),
            (16 * DAY - HOUR, "336h", True),
        ],
    )
    def test_answers_are_published_before_the_service_deletes_them(
        self,
        answered: Any,
        attempt: Attempt,
        wanted: Submission,
        clock: Any,
        out: Path,
        age: int,
        window: str,
        lands: bool,
    ) -> None:
        """The service keeps answers for 30 days; a round takes its window and an hour."""
        submission = replace(wanted, completion_window=window)
        started = clock.now
        answered(submission=submission)
        # The first round was created after the job had settled.
        clock.advance(started + LIST_LAG_SECONDS + age - clock.now)
        runner = attempt(submission=submission)
        runner.plan_round([0])
        assert (out / "manifest.json").exists() == lands
        if lands:
            written = json.loads((out / "manifest.json").read_text())
            assert (written["complete"], written["counts"]) == (False, {"succeeded": 3})

    def test_answers_precede_the_plan(self, answered: Any, attempt: Attempt, clock: Any, out: Path) -> None:
        """An attempt killed in between plans the round again; in the other order, it would lose the answers."""
        answered()
        clock.advance(29 * DAY)
        runner = attempt()
        (out / "results.jsonl").mkdir()
        with pytest.raises(OutputConflictError, match=r"results\.jsonl"):
            runner.plan_round([0])
        assert not (out / "_siliconflow" / "round-2.json").exists()

    def test_a_batch_ended_during_the_wait_is_over(
        self, attempt: Attempt, client: SiliconFlowClient, clock: Any
    ) -> None:
        runner = attempt()
        runner.submit(runner.parts)
        (running,) = runner.batches.values()
        clock.advance(200)
        ended = client.get_batch(running.id)
        assert list(attempt(ended=[ended]).batches.values()) == [ended]

    def test_local_files_are_closed(self, answered: Any) -> None:
        runner = answered()
        runner.close()
        runner.collect()
        collected = runner.results._rows
        runner.collect()
        assert collected is not None
        assert collected.closed
        runner.close()
        assert runner.results._rows is not None
        assert runner.results._rows.closed
