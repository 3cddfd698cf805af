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
    """Let an attempt finish, and return the published rows."""

    def finished(runner: JobRunner) -> list[dict[str, Any]]:
        runner.finish(complete=True)
        return [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]

    return finished


@pytest.fixture
def submitted(attempt: Attempt, clock: Any) -> Callable[..., None]:
    """Let an attempt submit the newest round's parts, or one of them, and die once they are over."""

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
def test_unmentioned_requests_get_the_batchs_status(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, plan: Any, found: Any, message: str
) -> None:
    control.plan(**plan)
    submitted(3, seconds=2 * DAY)
    row = rows(attempt())[1]
    assert said(row) == found
    assert message in row["error"]["message"]
    assert (row["custom_id"], row["index"], row["round"]) == ("request-000002", 1, 1)
    assert row["batch_id"].startswith("batch_")


def test_expired_signed_urls_are_refreshed(attempt: Attempt, submitted: Any, rows: Rows, clock: Any) -> None:
    """The signed URLs of the first response have expired."""
    submitted(3)
    runner = attempt()
    clock.advance(3600)
    assert [row["content"] for row in rows(runner)] == ["1", "2", "3"]


def test_running_and_unsent_parts_are_unfinished(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, part_lines: Any
) -> None:
    part_lines(1)
    control.plan(nth=2, stuck="in_progress")
    submitted(3, 0)
    submitted(3, 1)
    runner = attempt()
    assert [said(row) for row in rows(runner)] == [
        ("succeeded", None), ("unfinished", "unfinished"), ("unfinished", "not_sent"),
    ]  # fmt: skip
    assert runner.retryable == []


def test_the_newest_round_decides_a_requests_outcome(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control
) -> None:
    """If the newest round was not sent, the previous outcome stays."""
    control.plan(failing={"positions": [0]})
    submitted(2)
    attempt().plan_round([0])
    unsent = rows(attempt())
    assert [(said(row), row["round"]) for row in unsent] == [
        (("failed", "server_error"), 1),
        (("succeeded", None), 1),
    ]
    control.plan(stuck="in_progress")
    submitted(2)
    running = rows(attempt())
    assert [(said(row), row["round"]) for row in running] == [
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
def test_a_later_rounds_outcome_replaces_an_earlier_one(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, tmp_path: Path, second: Any, found: Any
) -> None:
    """It does not count as a duplicate."""
    control.plan(failing={"positions": [0]})
    control.plan(**second)
    submitted(2)
    attempt().plan_round([0])
    submitted(2, seconds=2 * DAY)
    row = rows(attempt())[0]
    assert (said(row), row["round"]) == (found, 2)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["duplicates"] == 0


def test_later_answers_keep_their_requests_position(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, part_lines: Any
) -> None:
    part_lines(2)
    control.plan(every=1, times=3, failing={"positions": [1]})
    submitted(6)
    attempt().plan_round([1, 3, 5])
    submitted(6)
    found = rows(attempt())
    assert [(row["index"], row["content"], row["round"]) for row in found] == [
        (i, str(i + 1), 1 + i % 2) for i in range(6)
    ]


def test_missing_answers_are_an_error_without_resending(
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
def test_an_undelivered_file_is_an_error(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, fault: Any, message: str, tmp_path: Path
) -> None:
    """A proxy's page in its place must not make rows missing: their requests would be resubmitted."""
    control.plan(failing={"positions": [1]})
    control.fault("GET /files/{id}/content", every=1, **fault)
    submitted(3)
    runner = attempt()
    with pytest.raises(SiliconFlowError, match=message):
        runner.collect()
    assert runner.retryable is None
    assert not (tmp_path / "out" / "results.jsonl").exists()
    control.reset()
    assert [row["status"] for row in rows(runner)] == ["succeeded", "failed", "succeeded"]


@BY_ID
def test_a_file_that_recovers_is_fetched(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, clock: Any
) -> None:
    """The lines of the batch's other file are counted once."""
    control.plan(failing={"positions": [1]}, duplicated={"positions": [0]}, unknown_ids=1)
    control.fault("GET /files/{id}/content", status=403, nth=2, every=2)
    submitted(3)
    clock.after(3500, control.reset)
    runner = attempt()
    assert [row["status"] for row in rows(runner)] == ["succeeded", "failed", "succeeded"]
    answers = runner.collect()
    assert (answers.duplicates, answers.unknown_requests, answers.total.completion) == (1, 1, 2)


def test_rows_of_the_other_file_are_kept(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, client: SiliconFlowClient
) -> None:
    control.plan(failing={"positions": [1]})
    submitted(3)
    (batch,) = client.list_batches()
    assert batch.output_file_id is not None
    path = batch.output_file_id.partition("?")[0].rpartition("/")[2]
    control.fault(f"GET /results/{path}", status=404, every=1)
    runner = attempt()
    assert [said(row) for row in rows(runner)] == [
        ("missing", "results_lost"), ("failed", "server_error"), ("missing", "results_lost"),
    ]  # fmt: skip
    assert runner.retryable == [1]


def test_lost_results_are_resent_once_cleared(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, cleared: Submission
) -> None:
    control.plan(gone_seconds=1e9)
    submitted(2)
    assert [said(row) for row in rows(attempt())] == [("missing", "results_lost")] * 2
    runner = attempt(submission=cleared)
    runner.collect()
    assert runner.retryable == [0, 1]


@pytest.mark.parametrize(
    "plan", [{"gone_seconds": 1e9}, {"lines_late_seconds": 1e9}, {"lowered_ids": True, "ids_cut_to": 3}], ids=str
)
def test_lost_results_of_older_rounds_are_not_awaited(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, cleared: Submission, clock: Any, plan: Any
) -> None:
    """A person has had them resent in a newer round."""
    control.plan(**plan)
    submitted(3)
    runner = attempt(submission=cleared)
    runner.collect()
    runner.plan_round([0, 1, 2])
    control.plan(failing={"positions": [1]})
    submitted(3, submission=cleared)
    started, runner = clock.now, attempt(submission=cleared)
    found = rows(runner)
    assert [(said(row), row["round"]) for row in found] == [
        (("succeeded", None), 2),
        (("failed", "server_error"), 2),
        (("succeeded", None), 2),
    ]
    assert (runner.retryable, clock.now) == ([1], started)


def test_without_counts_missing_lines_are_awaited(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, clock: Any
) -> None:
    """After the wait, the request is missing, as if the counts said so."""
    control.plan(missing={"positions": [1]}, counts_late_seconds=1e9)
    control.plan(missing={"positions": [1]})
    for waited in (True, False):
        submitted(3) if waited else None
        started = clock.now
        runner = attempt(3)
        assert [said(row)[0] for row in rows(runner)] == ["succeeded", "missing", "succeeded"]
        assert runner.retryable == [1]
        assert (clock.now - started >= 600) is waited


def test_results_of_another_job_are_ignored(
    attempt: Attempt, submitted: Any, rows: Rows, control: Control, put: Any
) -> None:
    control.plan(gone_seconds=1e9)
    submitted(2)
    good = {"index": 0, "custom_id": "request-000001", "status": "succeeded", "content": "another's"}
    put("results.jsonl", json.dumps(good) + "\n")
    put("manifest.json", '{"job_id": "another", "batches": []}')
    assert [said(row) for row in rows(attempt())] == [("missing", "results_lost")] * 2


def test_a_changed_request_file_stops_collecting(attempt: Attempt, submitted: Any, tmp_path: Path) -> None:
    submitted(3)
    path = tmp_path / "out" / "_siliconflow" / "requests.jsonl"
    path.write_text(path.read_text().replace("request-", "r-"))
    runner = attempt()
    with pytest.raises(RequestsLostError, match=r"requests\.jsonl was changed since the job was created"):
        runner.collect()
    assert runner.retryable is None


class TestForgotten:
    """A job of two parts; the second is sent 20 days after the first, which is deleted 10 days later."""

    @pytest.fixture
    def landed_rows(
        self, attempt: Attempt, submitted: Any, part_lines: Any, clock: Any, rows: Rows
    ) -> Callable[..., None]:
        def both(published: bool = True) -> None:
            part_lines(2)
            submitted(4, 0)
            clock.advance(20 * DAY)
            submitted(4, 1)
            if published:
                rows(attempt())
            clock.advance(11 * DAY)

        return both

    def test_published_rows_replace_deleted_results(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, tmp_path: Path, control: Control
    ) -> None:
        landed_rows()
        runner = attempt()
        assert [len(runner.parts), len(runner.batches)] == [1, 1]
        found = rows(runner)
        assert [(row["content"], row["status"]) for row in found] == [(str(i), "succeeded") for i in range(1, 5)]
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert [batch["id"] for batch in manifest["batches"]] == [found[0]["batch_id"], found[2]["batch_id"]]
        assert manifest["tokens"] == {"prompt": 16, "completion": 4, "cached": 0}
        assert runner.retryable == []

    def test_available_results_precede_published_rows(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, tmp_path: Path, put: Any
    ) -> None:
        landed_rows()
        published = (tmp_path / "out" / "results.jsonl").read_text()
        put(
            "results.jsonl",
            published.replace('"content":"1"', '"content":"one"').replace('"content":"3"', '"content":"x"'),
        )
        assert [row["content"] for row in rows(attempt())] == ["one", "2", "3", "4"]

    def test_missing_published_rows_are_an_error_unless_cleared(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, cleared: Submission, tmp_path: Path
    ) -> None:
        landed_rows()
        (tmp_path / "out" / "results.jsonl").unlink()
        with pytest.raises(JobFilesError, match=r"deleted a batch of round 1 .*'request-000001'.* 30 days"):
            attempt().collect()
        runner = attempt(submission=cleared)
        assert [said(row) for row in rows(runner)] == [("missing", "forgotten")] * 2 + [("succeeded", None)] * 2
        assert runner.retryable == [0, 1]

    def test_a_missing_published_line_fails_unless_cleared(
        self, attempt: Attempt, landed_rows: Any, rows: Rows, cleared: Submission, tmp_path: Path, put: Any
    ) -> None:
        landed_rows()
        path = tmp_path / "out" / "results.jsonl"
        put("results.jsonl", "".join(path.read_text().splitlines(keepends=True)[1:]))
        with pytest.raises(JobFilesError, match=r"'request-000001' and others"):
            attempt().collect()
        assert said(rows(attempt(submission=cleared))[0]) == ("missing", "forgotten")

    def test_an_older_rounds_lost_answers_are_an_error(
        self, attempt: Attempt, submitted: Any, control: Control, clock: Any, rows: Rows, cleared: Submission
    ) -> None:
        """Its answers are lost: the published job would lack them."""
        control.plan(failing={"positions": [0]})
        submitted(2)
        attempt().plan_round([0])
        clock.advance(28 * DAY)
        control.plan(stuck="in_progress")
        submitted(2)
        clock.advance(3 * DAY)
        with pytest.raises(JobFilesError, match=r"deleted a batch of round 1.*'request-000002'"):
            attempt().collect()
        found = rows(attempt(submission=cleared))
        assert [said(row) for row in found] == [("unfinished", "unfinished"), ("missing", "forgotten")]


def test_deleted_batches_are_an_error_without_published_results(
    attempt: Attempt, submitted: Any, control: Control, clock: Any
) -> None:
    """The part does not count as run: an attempt fails before it resubmits the part."""
    submitted(2)
    clock.advance(31 * DAY)
    runner = attempt()
    assert (len(runner.parts), runner.batches) == (1, {})
    with pytest.raises(JobFilesError, match="31 days old"):
        runner.submit(runner.parts)
    assert control.batches_created() == 1


def test_fetched_answers_are_validated(attempt: Attempt, submitted: Any, rows: Rows) -> None:
    def refuse(row: ResultRow) -> None:
        row.status = "invalid"

    submitted(2)
    runner = attempt(validate=refuse)
    assert [row["status"] for row in rows(runner)] == ["invalid"] * 2
    assert runner.retryable == [0, 1]
