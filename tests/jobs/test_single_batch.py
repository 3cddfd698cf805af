from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import NotFoundError, ServerError, SiliconFlowError, UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.server import Emulator
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.jobs.single_batch import download_results
from siliconflow_provider.outputs.ownership import OutputConflictError
from siliconflow_provider.storage.workspace import Workspace

Lines = Callable[[list[Any]], bytes]
Make = Callable[..., Batch]
Download = Callable[..., dict[str, Any]]
DAY = 24 * 3600
INPUT, RESULT = "GET /files/{id}/content", "GET /results/{id}"
GARBAGE = "<html>\n<body>It works!</body>\n</html>\n"


@pytest.fixture
def over(client: SiliconFlowClient, control: Control, clock: Any, sums: Callable[[int], bytes]) -> Make:
    """Submit requests and wait until their batch is over; the fields are those of its plan."""

    def make(content: int | bytes = 3, *, seconds: float = 200, **plan: Any) -> Batch:
        content = sums(content) if isinstance(content, int) else content
        if plan:
            control.plan(**plan)
        batch = client.create_batch(client.upload_file(io.BytesIO(content)).id)
        clock.advance(seconds)
        return client.get_batch(batch.id)

    return make


@pytest.fixture
def download(client: SiliconFlowClient, workspace: Callable[[], Workspace]) -> Download:
    """Download the results of a batch like another attempt, and return the manifest."""
    return lambda batch, **options: download_results(client, batch, workspace(), "dag/task/run/-1", **options)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that reads the published rows."""
    return lambda: [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def mentioned(client: SiliconFlowClient) -> Callable[[Batch], list[str]]:
    """Return a function that reads the custom ids in a batch's output and error file."""

    def read(batch: Batch) -> list[str]:
        content, shown = io.BytesIO(), client.get_batch(batch.id)
        for reference in (shown.output_file_id, shown.error_file_id):
            if reference is not None:
                client.download(reference, content)
        return [json.loads(line)["custom_id"] for line in content.getvalue().splitlines()]

    return read


def said(row: dict[str, Any]) -> tuple[str, str, str | None]:
    return row["custom_id"], row["status"], row["error"] and row["error"]["code"]


def warnings(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def path_of(reference: str | None) -> str:
    """Return the id of a result file in its signed URL."""
    assert reference is not None
    return reference.partition("?")[0].rpartition("/")[2]


class TestOrder:
    @pytest.mark.parametrize("size", [30, 1_200])
    def test_rows_have_the_input_files_order(
        self, over: Make, download: Download, rows: Any, jsonl: Lines, line: Any, mentioned: Any, size: int
    ) -> None:
        """The service writes answers in no order."""
        lines = [line(f"r{i}", f"{i} + 1") for i in range(size)]
        batch = over(jsonl(lines[::-1]), failing={"positions": [0]})
        manifest = download(batch)
        assert mentioned(batch) != [row["custom_id"] for row in rows()]
        assert [(row["index"], row["custom_id"], row["content"]) for row in rows()] == [
            (index, f"r{i}", str(i + 1) if index else None) for index, i in enumerate(range(size - 1, -1, -1))
        ]
        assert {(row["round"], row["batch_id"]) for row in rows()} == {(1, manifest["batches"][0]["id"])}
        assert (manifest["rows"], manifest["counts"]) == (size, {"succeeded": size - 1, "failed": 1})

    def test_repeated_and_unknown_lines_are_counted_and_named(
        self, over: Make, download: Download, rows: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        manifest = download(over(6, duplicated={"positions": [1, 2]}, unknown_ids=1, garbled={"positions": [4]}))
        assert [row["custom_id"] for row in rows()] == [f"r{i}" for i in range(6)]
        assert [manifest[name] for name in ("duplicates", "unknown_requests", "unreadable_lines")] == [2, 1, 1]
        assert "ignored 2 duplicate lines and 1 line with unknown custom_ids" in warnings(caplog)

    def test_no_requests_are_no_rows(self, over: Make, download: Download, rows: Any) -> None:
        manifest = download(over(b"\n  \n"))
        assert (rows(), manifest["rows"], manifest["counts"]) == ([], 0, {})
        assert manifest["batches"][0]["errors"] == ["the input file has no line"]


class TestAbsent:
    """Neither file mentions some requests."""

    @pytest.mark.parametrize(
        ("plan", "found"),
        [
            ({"missing": {"positions": [2]}}, ("r2", "missing", "missing")),
            ({"end": "expired", "run_share": 0.7}, ("r2", "expired", "batch_expired")),
            ({"end": "cancelled", "run_share": 0.7}, ("r2", "cancelled", "batch_cancelled")),
        ],
    )
    def test_unmentioned_requests_have_rows(
        self, over: Make, download: Download, rows: Any, plan: Any, found: Any
    ) -> None:
        manifest = download(over(3, seconds=2 * DAY, **plan))
        assert [said(row) for row in rows()] == [("r0", "succeeded", None), ("r1", "succeeded", None), found]
        assert rows()[2]["index"] == 2
        assert manifest["counts"] == {"succeeded": 2, found[1]: 1}

    def test_a_failed_batch_says_why_in_each_row(self, over: Make, download: Download, rows: Any) -> None:
        batch = over(3, end="failed", errors=["no such model", "line 2 is bad"])
        assert (batch.output_file_id, batch.error_file_id) == (None, None)
        manifest = download(batch)
        assert [said(row) for row in rows()] == [(f"r{i}", "failed", "batch_failed") for i in range(3)]
        assert {row["error"]["message"] for row in rows()} == {"no such model; line 2 is bad"}
        assert manifest["batches"][0]["errors"] == ["no such model", "line 2 is bad"]


class TestInputFile:
    @pytest.mark.parametrize("status", [400, 403, 404, 405, 410])
    def test_without_input_file_results_determine_the_rows(
        self, over: Make, download: Download, rows: Any, mentioned: Any, control: Control, caplog: Any, clock: Any,
        status: int,
    ) -> None:  # fmt: skip
        batch = over(4, missing={"positions": [1]}, failing={"positions": [2]})
        control.fault(INPUT, status=status, every=1)
        started = clock.now
        manifest = download(batch)
        assert [(row["index"], row["custom_id"]) for row in rows()] == list(enumerate(mentioned(batch)))
        assert sorted(map(said, rows())) == [
            ("r0", "succeeded", None), ("r2", "failed", "server_error"), ("r3", "succeeded", None),
        ]  # fmt: skip
        assert (manifest["rows"], clock.now) == (3, started)
        assert f"could not read the requests of batch {batch.id} from its input file (GET /files/" in warnings(caplog)

    @pytest.mark.parametrize("reference", [None, "f" * 100_000], ids=["none", "long"])
    def test_a_batch_without_input_file_has_rows(
        self, over: Make, download: Download, rows: Any, caplog: Any, reference: str | None
    ) -> None:
        download(replace(over(2), input_file_id=reference))
        assert {row["custom_id"] for row in rows()} == {"r0", "r1"}
        assert "could not read the requests of batch" in warnings(caplog)

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ({"status": 503}, ServerError),
            ({"status": 429}, SiliconFlowError),
            ({"status": 401}, SiliconFlowError),
            ({"kind": "cut", "after_bytes": 20}, SiliconFlowError),
            ({"kind": "garbage", "body": GARBAGE}, UnreadableAnswerError),
        ],
        ids=str,
    )
    def test_a_failed_download_fails_after_ten_minutes(
        self, over: Make, download: Download, rows: Any, control: Control, clock: Any, tmp_path: Path,
        fault: Any, error: type[Exception],
    ) -> None:  # fmt: skip
        batch = over(3)
        control.fault(INPUT, every=1, **fault)
        started = clock.now
        with pytest.raises(error):
            download(batch)
        assert 600 <= clock.now - started < 1_200
        assert not (tmp_path / "out").exists()
        clock.after(300, control.reset)
        download(batch)
        assert [row["content"] for row in rows()] == ["1", "2", "3"]

    def test_a_proxy_page_is_ignored_once_cleared(
        self, over: Make, download: Download, rows: Any, control: Control, caplog: Any
    ) -> None:
        batch = over(3)
        control.fault(INPUT, kind="garbage", body=GARBAGE, every=1)
        download(batch, is_cleared=True)
        assert {row["custom_id"] for row in rows()} == {"r0", "r1", "r2"}
        assert f"the input file of batch {batch.id} has no line with a custom_id" in warnings(caplog)

    def test_a_failed_batch_with_garbage_has_no_rows(
        self, over: Make, download: Download, rows: Any, clock: Any
    ) -> None:
        batch, started = over(GARBAGE.encode()), clock.now
        manifest = download(batch)
        assert (rows(), manifest["batches"][0]["status"], clock.now) == ([], "failed", started)
        assert "line 1: not JSON" in manifest["batches"][0]["errors"]

    def test_blank_unreadable_and_duplicate_lines_have_no_row(
        self, over: Make, download: Download, rows: Any, jsonl: Lines, line: Any, caplog: Any
    ) -> None:
        lines = [line("b", "1 + 1"), "", "   ", "{broken", '{"id": 1}', line("a", "1 + 1"), line("b", "1 + 1"), "\xff"]
        download(over(b"\xef\xbb\xbf" + jsonl(lines) + b"\xff\xfe"))
        assert [said(row)[:2] for row in rows()] == [("b", "failed"), ("a", "failed")]
        assert "4 lines without a custom_id (no row), 1 duplicate custom_id (one row each)" in warnings(caplog)

    def test_valid_files_give_no_warning(self, over: Make, download: Download, caplog: Any, control: Control) -> None:
        batch = over(3)
        asked = control.answers()["GET /batches/{id}"].total()
        download(batch)
        assert warnings(caplog) == ""
        answers = control.answers()
        assert [answers[endpoint].total() for endpoint in (INPUT, RESULT)] == [1, 1]
        assert answers["GET /batches/{id}"].total() - asked == 1


INCOMPLETE = pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"unwritten": {"positions": [0, 1]}}, "but its output file has 1"),
        ({"files_late_seconds": 1e9}, "but the service shows no output file"),
        ({"gone_seconds": 1e9}, "404"),
    ],
    ids=str,
)


class TestIncomplete:
    @pytest.mark.parametrize("has_input", [True, False])
    @INCOMPLETE
    def test_incomplete_results_are_an_error_after_ten_minutes(
        self, over: Make, download: Download, control: Control, clock: Any, tmp_path: Path,
        plan: Any, message: str, has_input: bool,
    ) -> None:  # fmt: skip
        batch = over(3, **plan)
        if not has_input:
            control.fault(INPUT, status=404, every=1)
        started = clock.now
        with pytest.raises(SiliconFlowError, match=message) as caught:
            download(batch)
        assert 600 <= clock.now - started < 1_200
        assert "nothing was written, and a retry downloads again. If the error persists, clear" in str(caught.value)
        assert isinstance(caught.value, NotFoundError if message == "404" else UnreadableAnswerError)
        assert not (tmp_path / "out").exists()

    @INCOMPLETE
    def test_incomplete_results_are_published_once_cleared(
        self, over: Make, download: Download, rows: Any, caplog: Any, plan: Any, message: str
    ) -> None:
        download(over(3, **plan), is_cleared=True)
        assert [said(row) for row in rows()[:2]] == [(f"r{i}", "missing", "results_lost") for i in range(2)]
        assert (rows()[2]["custom_id"], rows()[2]["status"]) == (
            "r2", "succeeded" if "unwritten" in plan else "missing",
        )  # fmt: skip
        assert message in warnings(caplog)

    @INCOMPLETE
    def test_without_input_file_available_results_are_published(
        self, over: Make, download: Download, rows: Any, control: Control, plan: Any, message: str
    ) -> None:
        batch = over(3, **plan)
        control.fault(INPUT, status=404, every=1)
        manifest = download(batch, is_cleared=True)
        assert [said(row)[:2] for row in rows()] == [("r2", "succeeded")] * ("unwritten" in plan)
        assert manifest["rows"] == len(rows())

    def test_a_failing_service_is_no_incomplete_result(
        self, over: Make, download: Download, control: Control, clock: Any, tmp_path: Path
    ) -> None:
        batch = over(3)
        control.fault(INPUT, status=404, every=1)
        control.fault(RESULT, status=503, every=1)
        started = clock.now
        with pytest.raises(ServerError):
            download(batch, is_cleared=True)
        assert 600 <= clock.now - started < 1_200
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("endpoint", ["GET /batches/{id}", RESULT])
    def test_without_input_file_an_outage_is_retried(
        self, over: Make, download: Download, rows: Any, control: Control, clock: Any, endpoint: str
    ) -> None:
        batch = over(3)
        control.fault(INPUT, status=404, every=1)
        control.fault(endpoint, status=503, every=1)
        clock.after(300, control.reset)
        download(batch)
        assert {row["content"] for row in rows()} == {"1", "2", "3"}

    @pytest.mark.parametrize("is_cleared", [True, False])
    def test_results_with_unknown_ids_are_rejected(
        self, over: Make, download: Download, rows: Any, tmp_path: Path, is_cleared: bool
    ) -> None:
        batch = over(3, ids_cut_to=1)
        if not is_cleared:
            with pytest.raises(UnreadableAnswerError, match="have unknown custom_ids in 3 of 3 lines"):
                download(batch)
            assert not (tmp_path / "out").exists()
            return
        manifest = download(batch, is_cleared=True)
        assert [said(row) for row in rows()] == [(f"r{i}", "missing", "results_lost") for i in range(3)]
        assert manifest["unknown_requests"] == 3

    def test_a_lost_error_file_loses_only_its_rows(
        self, over: Make, download: Download, rows: Any, control: Control
    ) -> None:
        batch = over(3, failing={"positions": [1]})
        control.fault(f"GET /results/{path_of(batch.error_file_id)}", status=404, every=1)
        with pytest.raises(NotFoundError):
            download(batch)
        download(batch, is_cleared=True)
        assert [said(row)[1:] for row in rows()] == [
            ("succeeded", None), ("missing", "results_lost"), ("succeeded", None),
        ]  # fmt: skip


class TestPublished:
    def test_the_previous_batchs_results_are_kept(
        self, over: Make, download: Download, rows: Any, tmp_path: Path
    ) -> None:
        first, second = over(2), over(2)
        before = download(first)
        results = (tmp_path / "out" / "results.jsonl").read_bytes()
        assert download(first) == before
        assert not (tmp_path / "out" / "_siliconflow" / "replaced").exists()
        after = download(second)
        assert download(second) == after
        kept = tmp_path / "out" / "_siliconflow" / "replaced"
        assert [path.name for path in kept.iterdir()] == [before["job_id"]]
        assert (kept / before["job_id"] / "results.jsonl").read_bytes() == results
        assert json.loads((kept / before["job_id"] / "manifest.json").read_text()) == before
        assert {row["batch_id"] for row in rows()} == {second.id}

    @pytest.mark.parametrize("is_cleared", [True, False])
    @pytest.mark.parametrize("has_input", [True, False])
    def test_lost_results_leave_the_published_rows(
        self, over: Make, download: Download, control: Control, tmp_path: Path, has_input: bool, is_cleared: bool
    ) -> None:
        batch = over(4, failing={"positions": [1], "message": "m" * 3_000})
        before = download(batch)
        results = (tmp_path / "out" / "results.jsonl").read_bytes()
        errors = (tmp_path / "out" / "_siliconflow" / "errors.jsonl").read_bytes()
        control.fault(RESULT, status=404, every=1)
        if not has_input:
            control.fault(INPUT, status=404, every=1)
        after = download(batch, is_cleared=is_cleared)
        assert (tmp_path / "out" / "results.jsonl").read_bytes() == results
        assert (tmp_path / "out" / "_siliconflow" / "errors.jsonl").read_bytes() == errors
        unchanged = ("job_id", "counts", "tokens", "errors", "batches", "paths")
        assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}

    @pytest.mark.parametrize("is_manifest_lost", [True, False])
    def test_rows_stay_without_input_and_output_file(
        self, over: Make, download: Download, rows: Any, control: Control, tmp_path: Path, is_manifest_lost: bool
    ) -> None:
        """The error file alone mentions one request of three."""
        batch = over(3, failing={"positions": [1]})
        download(batch)
        results = rows()
        if is_manifest_lost:
            (tmp_path / "out" / "manifest.json").unlink()
        control.fault(INPUT, status=404, every=1)
        control.fault(f"GET /results/{path_of(batch.output_file_id)}", status=404, every=1)
        assert download(batch, is_cleared=True)["counts"] == {"succeeded": 2, "failed": 1}
        assert rows() == results

    def test_found_results_replace_missing_rows(
        self, over: Make, download: Download, rows: Any, control: Control
    ) -> None:
        batch = over(3)
        control.fault(RESULT, status=404, every=1)
        download(batch, is_cleared=True)
        assert {row["status"] for row in rows()} == {"missing"}
        with pytest.raises(NotFoundError):
            download(batch)
        control.reset()
        assert download(batch)["counts"] == {"succeeded": 3}

    def test_lost_results_of_another_batch_are_missing(
        self, over: Make, download: Download, rows: Any, control: Control
    ) -> None:
        first, second = over(2), over(2)
        download(first)
        control.fault(RESULT, status=404, every=1)
        download(second, is_cleared=True)
        assert [(row["status"], row["batch_id"]) for row in rows()] == [("missing", second.id)] * 2

    def test_another_task_does_not_download(
        self, over: Make, client: SiliconFlowClient, workspace: Any, download: Download, control: Control
    ) -> None:
        batch = over(2)
        download(batch)
        before = control.answers()[INPUT].total()
        with pytest.raises(OutputConflictError, match="another task instance"):
            download_results(client, batch, workspace(), "dag/other/run/-1")
        assert control.answers()[INPUT].total() == before

    def test_the_manifest_looks_like_a_jobs(
        self, over: Make, download: Download, attempt: Callable[..., JobRunner], clock: Any, tmp_path: Path
    ) -> None:
        one = download(over(3))
        (tmp_path / "out").rename(tmp_path / "other")
        runner = attempt(3)
        runner.submit(runner.parts)
        clock.advance(200)
        job = attempt(3).finish(complete=True)
        assert list(one) == [name for name in job if name != "estimate"]
        assert list(one["batches"][0]) == list(job["batches"][0])
        same = ("rows", "counts", "finish_reasons", "errors", "rounds", "complete", "kept")
        assert {name: one[name] for name in same} == {name: job[name] for name in same}
        assert (one["rounds"], one["complete"], one["kept"]) == (1, True, 0)

    def test_the_batch_of_a_job_has_its_key(
        self, download: Download, attempt: Callable[..., JobRunner], client: SiliconFlowClient, clock: Any, over: Make,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        runner = attempt(1)
        runner.submit(runner.parts)
        clock.advance(200)
        (batch,) = client.list_batches()
        (tmp_path / "out").rename(tmp_path / "other")
        assert download(batch)["key"] == batch.metadata["airflow_key"] == "key-1"
        assert download(over(1))["key"] == ""

    def test_the_full_text_of_cut_errors_is_published(
        self, over: Make, download: Download, rows: Any, tmp_path: Path
    ) -> None:
        manifest = download(over(3, failing={"positions": [1], "message": "m" * 5_000}))
        assert rows()[1]["error"]["message"] == "m" * 2_000 + "... (3,000 more characters)"
        assert manifest["paths"]["errors"] == f"file://{tmp_path}/out/_siliconflow/errors.jsonl"
        (whole,) = (tmp_path / "out" / "_siliconflow" / "errors.jsonl").read_text().splitlines()
        assert json.loads(whole)["message"] == "m" * 5_000

    @pytest.mark.parametrize("end", ["failed", "completed"])
    def test_neither_key_nor_signed_url_is_shown(
        self, over: Make, download: Download, emulator: Emulator, tmp_path: Path, control: Control,
        caplog: pytest.LogCaptureFixture, end: str,
    ) -> None:  # fmt: skip
        caplog.set_level(logging.DEBUG, "siliconflow_provider")
        secret = f"{emulator.api_key} https://bucket.example/out?Signature=s3cret"
        plan = {"end": "failed", "errors": [secret] * 20} if end == "failed" else {"gone_seconds": 700.0}
        batch = over(40, failing={"share": 0.5, "code": emulator.api_key, "message": secret}, **plan)
        signatures = [
            part for reference in (batch.output_file_id, batch.error_file_id) if reference is not None
            for part in reference.partition("?")[2].split("&")
        ]  # fmt: skip
        assert bool(signatures) is (end == "completed")
        control.fault(INPUT, status=403, body={"code": 1, "message": secret}, every=1, times=1)
        errors = []
        for is_cleared in (False, True):
            try:
                download(batch, is_cleared=is_cleared)
            except SiliconFlowError as error:
                errors.append(str(error))
        written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file())
        assert "https://bucket.example/out?..." in written
        for text in (written, caplog.text, *errors):
            for hidden in (emulator.api_key, "s3cret", *signatures):
                assert hidden not in text
