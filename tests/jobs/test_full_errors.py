"""The full text of errors that are cut in rows and in the manifest is in a separate file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.emulator.control import Control
from siliconflow_provider.jobs.runner import JobRunner

Attempt = Callable[..., JobRunner]
DAY = 24 * 3600
MEGABYTE = "e" * 1_000_000
CUT = "e" * 2_000 + "... (998,000 more characters)"


def split_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def submitted(attempt: Attempt, clock: Any) -> Callable[..., JobRunner]:
    def submit(requests: int, **options: Any) -> JobRunner:
        runner = attempt(requests, **options)
        runner.submit(runner.parts)
        clock.advance(200)
        return attempt(requests, **options)

    return submit


def test_a_megabyte_is_cut_only_in_its_row(submitted: Any, control: Control, tmp_path: Path) -> None:
    control.plan(failing={"positions": [1], "message": MEGABYTE})
    manifest = submitted(3).finish(complete=True)
    out = tmp_path / "out"
    rows = split_lines(out / "results.jsonl")
    assert [row["error"] and row["error"]["message"] for row in rows] == [None, CUT, None]
    assert manifest["errors"][0]["message"] == CUT
    assert manifest["paths"]["errors"] == f"file://{out}/_siliconflow/errors.jsonl"
    (whole,) = split_lines(out / "_siliconflow" / "errors.jsonl")
    assert whole == {
        "batch_id": rows[1]["batch_id"],
        "round": 1,
        "index": 1,
        "custom_id": "request-000002",
        "code": "server_error",
        "message": MEGABYTE,
    }


def test_all_errors_of_a_batch_are_published(submitted: Any, control: Control, tmp_path: Path) -> None:
    errors = [f"line {number}: {'not JSON ' * 20}" for number in range(1, 5_001)]
    control.plan(end="failed", errors=errors)
    manifest = submitted(40).finish(complete=True)
    out = tmp_path / "out"
    assert manifest["batches"][0]["errors"] == [*errors[:9], "and 4,991 more"]
    assert (out / "results.jsonl").stat().st_size < 40 * 2_500
    assert split_lines(out / "results.jsonl")[0]["error"]["message"].endswith("; and 4,996 more")
    whole = split_lines(out / "_siliconflow" / "errors.jsonl")
    assert [error["message"] for error in whole] == errors
    assert {(error["batch_id"], error["round"]) for error in whole} == {(manifest["batches"][0]["id"], 1)}


def test_short_errors_need_no_file(submitted: Any, control: Control, tmp_path: Path) -> None:
    control.plan(failing={"positions": [1], "message": "no"})
    manifest = submitted(3).finish(complete=True)
    assert sorted(manifest["paths"]) == ["manifest", "report", "results"]
    assert not (tmp_path / "out" / "_siliconflow" / "errors.jsonl").exists()


def test_a_resent_request_has_only_its_last_error(
    submitted: Any, attempt: Attempt, control: Control, clock: Any, tmp_path: Path
) -> None:
    control.plan(failing={"positions": [0, 1], "message": "first " + MEGABYTE}, times=1)
    control.plan(failing={"positions": [0], "message": "second " + MEGABYTE})
    runner = submitted(3)
    runner.collect()
    runner.plan_round(runner.retryable)
    runner.submit(runner.parts)
    clock.advance(200)
    attempt(3).finish(complete=True)
    whole = split_lines(tmp_path / "out" / "_siliconflow" / "errors.jsonl")
    assert [(error["index"], error["round"], error["message"][:7]) for error in whole] == [(0, 2, "second ")]


def test_full_errors_of_deleted_batches_are_kept(
    submitted: Any, attempt: Attempt, control: Control, clock: Any, tmp_path: Path
) -> None:
    control.plan(failing={"positions": [1], "message": MEGABYTE})
    submitted(3).finish(complete=True)
    before = (tmp_path / "out" / "_siliconflow" / "errors.jsonl").read_bytes()
    for seconds in (40 * DAY, 0):
        clock.advance(seconds)
        manifest = attempt(3).finish(complete=True)
        assert "errors" in manifest["paths"]
        assert (tmp_path / "out" / "_siliconflow" / "errors.jsonl").read_bytes() == before
