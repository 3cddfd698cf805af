from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError, UnreadableAnswerError
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.job_directory import JobFilesError
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.outputs.answers import ResultRow

Attempt = Callable[..., JobRunner]
Rows = Callable[[JobRunner], list[dict[str, Any]]]
DAY = 24 * 3600


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Lets an attempt finish, and reads what it has written."""

    def finished(runner: JobRunner) -> list[dict[str, Any]]:
        runner.finish(complete=True)
        return [json.loads(each) for each in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]

    return finished


@pytest.fixture
def submitted(attempt: Attempt, clock: Any) -> Callable[..., None]:
    """Has an attempt submit the newest round's parts, or one of them, and die once they are over."""

    def submit(requests: int, part: int | None = None, *, seconds: float = 200.0, **options: Any) -> None:
        runner = attempt(requests, **options)
        runner.submit(runner.parts if part is None else runner.parts[part : part + 1])
        clock.advance(seconds)

    return submit


@pytest.fixture
def cleared(wanted: Submission) -> Submission:
    return replace(wanted, max_tries=wanted.max_tries + 1, is_cleared_try=True)


def said(row: dict[str, Any]) -> tuple[str, str | None]:
    return row["status"], row["error"] and row["error"]["code"]


@pytest.mark.parametrize(
    ("plan", "found", "message"),
    [
        ({"missing": {"positions": [1]}}, ("missing", "missing"), "neither of its files has this request"),
        ({"end": "failed", "errors": ["one", "two", "three", "four"]}, ("failed", "batch_failed"), "one; two; three"),
        ({"end": "expired", "run_share": 0.0}, ("expired", "batch_expired"), ""),
        ({"end": "cancelled", "run_share": 0.0}, ("cancelled", "batch_cancelled"), ""),
    ],
)
def test_what_no_file_mentions_is_told_by_how_the_batch_ended(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, plan: Any, found: Any, message: str
) -> None:
    control.plan(**plan)
    submitted(3, seconds=2 * DAY)
    row = rows(attempt())[1]
    assert said(row) == found
    assert message in row["error"]["message"]
    assert (row["custom_id"], row["index"], row["round"]) == ("request-000002", 1, 1)
    assert row["batch_id"].startswith("batch_")


def test_answers_are_fetched_long_after_the_batch_was_looked_at(
    attempt: Attempt, submitted: Any, rows: Rows, clock: Any
) -> None:
    """The signed URLs that it showed then have expired."""
    submitted(3)
    runner = attempt()
    clock.advance(3600)
    assert [each["content"] for each in rows(runner)] == ["1", "2", "3"]


def test_parts_that_run_or_were_not_sent_are_unfinished(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, part_lines: Any
) -> None:
    part_lines(1)
    control.plan(nth=2, stuck="in_progress")
    submitted(3, 0)
    submitted(3, 1)
    runner = attempt()
    assert [said(each) for each in rows(runner)] == [
        ("succeeded", None), ("unfinished", "unfinished"), ("unfinished", "not_sent"),
    ]  # fmt: skip
    assert runner.retryable == []


def test_of_two_rounds_the_newest_tells_what_became_of_a_request(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control
) -> None:
    """Unless it has not been sent: then the last that is known of it stands."""
    control.plan(failing={"positions": [0]})
    submitted(2)
    attempt().plan_round([0])
    unsent = rows(attempt())
    assert [(said(each), each["round"]) for each in unsent] == [
        (("failed", "server_error"), 1),
        (("succeeded", None), 1),
    ]
    control.plan(stuck="in_progress")
    submitted(2)
    running = rows(attempt())
    assert [(said(each), each["round"]) for each in running] == [
        (("unfinished", "unfinished"), 2),
        (("succeeded", None), 1),
    ]


@pytest.mark.parametrize(
    ("second", "found"),
    [
        ({"failing": {"positions": [0], "code": "again"}}, ("failed", "again")),
        ({"missing": {"positions": [0]}}, ("missing", "missing")),
        ({"end": "expired", "run_share": 0.0}, ("expired", "batch_expired")),
    ],
)
def test_what_a_later_round_has_come_to_is_the_last_that_is_known(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, tmp_path: Path, second: Any, found: Any
) -> None:
    """And no repetition of what the round before said."""
    control.plan(failing={"positions": [0]})
    control.plan(**second)
    submitted(2)
    attempt().plan_round([0])
    submitted(2, seconds=2 * DAY)
    row = rows(attempt())[0]
    assert (said(row), row["round"]) == (found, 2)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["duplicates"] == 0


def test_an_answer_of_a_later_round_has_the_place_of_its_request(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, part_lines: Any
) -> None:
    part_lines(2)
    control.plan(every=1, times=3, failing={"positions": [1]})
    submitted(6)
    attempt().plan_round([1, 3, 5])
    submitted(6)
    found = rows(attempt())
    assert [(each["index"], each["content"], each["round"]) for each in found] == [
        (i, str(i + 1), 1 + i % 2) for i in range(6)
    ]


def test_answers_that_the_service_does_not_show_are_an_error_and_nothing_is_bought(
    attempt: Attempt, submitted: Any, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(3)
    runner, get = attempt(), SiliconFlowClient.get_batch
    monkeypatch.setattr(
        SiliconFlowClient, "get_batch", lambda self, batch_id: replace(get(self, batch_id), output_file_id=None)
    )
    with pytest.raises(UnreadableAnswerError, match=r"3 completed and 0 failed, but the service shows no output file"):
        runner.collect()
    assert runner.retryable is None


BY_ID = pytest.mark.parametrize("forms", [Forms(result_ids=True)], ids=["by id"])


@BY_ID
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "status", "status": 503}, "503"),
        ({"kind": "garbage"}, r"the response for the output file of batch_\w+ has no line of a result file"),
        (
            {"kind": "garbage", "nth": 2},
            r"the response for the (output|error) file of batch_\w+ has no line of a result",
        ),
    ],
)
def test_a_file_that_does_not_come_is_an_error_and_no_missing_row(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, fault: Any, message: str, tmp_path: Path
) -> None:
    """Such as a proxy's page in its place: its requests would be bought again."""
    control.plan(failing={"positions": [1]})
    control.fault("GET /files/{id}/content", every=1, **fault)
    submitted(3)
    runner = attempt()
    with pytest.raises(SiliconFlowError, match=message):
        runner.collect()
    assert runner.retryable is None
    assert not (tmp_path / "out" / "results.jsonl").exists()
    control.reset()
    assert [each["status"] for each in rows(runner)] == ["succeeded", "failed", "succeeded"]


@BY_ID
def test_a_file_that_heals_is_fetched(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, clock: Any
) -> None:
    """And what its batch has besides is counted once."""
    control.plan(failing={"positions": [1]}, duplicated={"positions": [0]}, unknown_ids=1)
    control.fault("GET /files/{id}/content", status=403, nth=2, every=2)
    submitted(3)
    clock.after(3500, control.reset)
    runner = attempt()
    assert [each["status"] for each in rows(runner)] == ["succeeded", "failed", "succeeded"]
    answers = runner.collect()
    assert (answers.duplicates, answers.unknown_requests, answers.completion_tokens) == (1, 1, 2)


def test_the_other_files_rows_stand(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, client: SiliconFlowClient
) -> None:
    control.plan(failing={"positions": [1]})
    submitted(3)
    (batch,) = client.list_batches()
    assert batch.output_file_id is not None
    path = batch.output_file_id.partition("?")[0].rpartition("/")[2]
    control.fault(f"GET /results/{path}", status=404, every=1)
    runner = attempt()
    assert [said(each) for each in rows(runner)] == [
        ("missing", "results_lost"), ("failed", "server_error"), ("missing", "results_lost"),
    ]  # fmt: skip
    assert runner.retryable == [1]


def test_what_is_lost_is_sent_again_once_cleared(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, cleared: Submission
) -> None:
    control.plan(gone_seconds=1e9)
    submitted(2)
    assert [said(each) for each in rows(attempt())] == [("missing", "results_lost")] * 2
    runner = attempt(submission=cleared)
    runner.collect()
    assert runner.retryable == [0, 1]


@pytest.mark.parametrize(
    "plan", [{"gone_seconds": 1e9}, {"lines_late_seconds": 1e9}, {"lowered_ids": True, "ids_cut_to": 3}], ids=str
)
def test_an_older_rounds_lost_results_are_not_awaited(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, cleared: Submission, clock: Any, plan: Any
) -> None:
    """Once a person has had it sent again, in a round that counts."""
    control.plan(**plan)
    submitted(3)
    runner = attempt(submission=cleared)
    runner.collect()
    runner.plan_round([0, 1, 2])
    control.plan(failing={"positions": [1]})
    submitted(3, submission=cleared)
    started, runner = clock.now, attempt(submission=cleared)
    found = rows(runner)
    assert [(said(each), each["round"]) for each in found] == [
        (("succeeded", None), 2),
        (("failed", "server_error"), 2),
        (("succeeded", None), 2),
    ]
    assert (runner.retryable, clock.now) == ([1], started)


def test_without_counts_missing_lines_are_awaited(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, clock: Any
) -> None:
    """Once the wait is over it is missing, as where the counts say so."""
    control.plan(missing={"positions": [1]}, counts_late_seconds=1e9)
    control.plan(missing={"positions": [1]})
    for waited in (True, False):
        submitted(3) if waited else None
        started = clock.now
        runner = attempt(3)
        assert [said(each)[0] for each in rows(runner)] == ["succeeded", "missing", "succeeded"]
        assert runner.retryable == [1]
        assert (clock.now - started >= 600) is waited


def test_another_jobs_results_are_not_landed_ones(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, put: Any
) -> None:
    control.plan(gone_seconds=1e9)
    submitted(2)
    good = {"index": 0, "custom_id": "request-000001", "status": "succeeded", "content": "another's"}
    put("results.jsonl", json.dumps(good) + "\n")
    put("manifest.json", '{"job_id": "another", "batches": []}')
    assert [said(each) for each in rows(attempt())] == [("missing", "results_lost")] * 2


def test_a_changed_request_file_does_not_turn_answers_into_strangers(
    attempt: Attempt, submitted: Any, tmp_path: Path
) -> None:
    submitted(3)
    path = tmp_path / "out" / "_siliconflow" / "requests.jsonl"
    path.write_text(path.read_text().replace("request-", "r-"))
    runner = attempt()
    with pytest.raises(RequestsLostError, match=r"requests\.jsonl was changed since the job was created"):
        runner.collect()
    assert runner.retryable is None


class TestForgotten:
    """A job of two parts; the second is sent 20 days after the first, which is forgotten 10 days later."""

    @pytest.fixture
    def landed_rows(
        self, attempt: Attempt, submitted: Any, part_lines: Any, clock: Any, rows: Rows
    ) -> Callable[..., None]:
        def both(landed: bool = True) -> None:
            part_lines(2)
            submitted(4, 0)
            clock.advance(20 * DAY)
            submitted(4, 1)
            if landed:
                rows(attempt())
            clock.advance(11 * DAY)

        return both

    def test_landed_rows_stand_in_for_what_is_forgotten_and_the_rest_is_fetched(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, tmp_path: Path, control: Control
    ) -> None:
        landed_rows()
        runner = attempt()
        assert [len(runner.parts), len(runner.batches)] == [1, 1]
        found = rows(runner)
        assert [(each["content"], each["status"]) for each in found] == [(str(i), "succeeded") for i in range(1, 5)]
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert [each["id"] for each in manifest["batches"]] == [found[0]["batch_id"], found[2]["batch_id"]]
        assert manifest["tokens"] == {"prompt": 16, "completion": 4}
        assert runner.retryable == []

    def test_what_the_service_still_shows_goes_before_what_has_landed(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, tmp_path: Path, put: Any
    ) -> None:
        landed_rows()
        landed = (tmp_path / "out" / "results.jsonl").read_text()
        put(
            "results.jsonl",
            landed.replace('"content":"1"', '"content":"one"').replace('"content":"3"', '"content":"x"'),
        )
        assert [each["content"] for each in rows(attempt())] == ["one", "2", "3", "4"]

    def test_landed_rows_that_are_gone_are_an_error_unless_cleared(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, cleared: Submission, tmp_path: Path
    ) -> None:
        landed_rows()
        (tmp_path / "out" / "results.jsonl").unlink()
        with pytest.raises(JobFilesError, match=r"deleted a batch of round 1 .*'request-000001'.* 30 days"):
            attempt().collect()
        runner = attempt(submission=cleared)
        assert [said(each) for each in rows(runner)] == [("missing", "forgotten")] * 2 + [("succeeded", None)] * 2
        assert runner.retryable == [0, 1]

    def test_a_landed_line_that_was_lost_is_an_error_unless_cleared(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, cleared: Submission, tmp_path: Path, put: Any
    ) -> None:
        landed_rows()
        path = tmp_path / "out" / "results.jsonl"
        put("results.jsonl", "".join(path.read_text().splitlines(keepends=True)[1:]))
        with pytest.raises(JobFilesError, match=r"'request-000001' and others"):
            attempt().collect()
        assert said(rows(attempt(submission=cleared))[0]) == ("missing", "forgotten")

    def test_what_an_older_round_lost_is_an_error_though_a_newer_one_runs(
        self, attempt: Attempt, submitted: Any, control: Control, clock: Any, rows: Rows, cleared: Submission
    ) -> None:
        """Its answers are gone: to go on would land a job that lacks them."""
        control.plan(failing={"positions": [0]})
        submitted(2)
        attempt().plan_round([0])
        clock.advance(29 * DAY)
        control.plan(stuck="in_progress")
        submitted(2)
        clock.advance(2 * DAY)
        with pytest.raises(JobFilesError, match=r"deleted a batch of round 1.*'request-000002'"):
            attempt().collect()
        found = rows(attempt(submission=cleared))
        assert [said(each) for each in found] == [("unfinished", "unfinished"), ("missing", "forgotten")]


def test_the_service_is_not_asked_for_what_it_has_forgotten_though_nothing_has_landed(
    attempt: Attempt, submitted: Any, control: Control, clock: Any
) -> None:
    """Nor is the part called run: an attempt is told before it buys it again."""
    submitted(2)
    clock.advance(31 * DAY)
    runner = attempt()
    assert (len(runner.parts), runner.batches) == (1, {})
    with pytest.raises(JobFilesError, match="31 days old"):
        runner.submit(runner.parts)
    assert control.batches_created() == 1


def test_an_answer_is_validated_once_it_is_fetched(attempt: Attempt, submitted: Any, rows: Rows) -> None:
    def refuse(row: ResultRow) -> None:
        row.status = "invalid"

    submitted(2)
    runner = attempt(validate=refuse)
    assert [each["status"] for each in rows(runner)] == ["invalid"] * 2
    assert runner.retryable == [0, 1]
