from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.outputs.answer_files import rows_of_file
from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.outputs.manifest import Tally
from siliconflow_provider.outputs.row_errors import (
    FullError,
    RowErrors,
    full_errors_of_batch,
    read_full_errors,
    write_full_errors,
)

Attempt = Callable[..., JobRunner]
DAY = 24 * 3600
MEGABYTE = "e" * 1_000_000
CUT = "e" * 2_000 + "... (998,000 more characters)"
SIGNED = "https://images.example/cat.png?Signature=s3cret"
KEY = "sk-Zm9v7Qx9Zm9v7Qx9"


def without_key(text: str) -> str:
    return text.replace(KEY, "***").replace("?Signature=s3cret", "?...")


def settled(error: Any) -> AnswerError:
    """What is kept of the error of a line of an error file."""
    line = json.dumps({"custom_id": "a", "response": None, "error": error}).encode()
    (row,) = rows_of_file([line], "batch_1", "error", Tally())
    RowErrors(None, without_key).clean_and_cut(row)
    assert row.error is not None
    return row.error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"code": "bad", "message": f"cannot read {SIGNED}"}, "bad", "cannot read https://images.example/cat.png?..."),
        ({"code": KEY, "message": f"{KEY} may not"}, "***", "*** may not"),
        (f"{KEY}\n{SIGNED}", None, "***\\nhttps://images.example/cat.png?..."),
        ([f"{KEY} {SIGNED}"], None, "['*** https://images.example/cat.png?...']"),
        ({"message": {"reason": KEY, "link": [SIGNED]}}, None, None),
        ({"error": {"message": KEY}}, None, "no reason given"),
        ({"code": {"id": KEY}}, "{'id': '***'}", "{'id': '***'}"),
        ({"type": f"\x1b[31m{KEY}\u202e", "message": ["\x9b"]}, "\\x1b[31m***\\u202e", "['\\x9b']"),
        (17, None, "17"),
        ({"code": "c" * 5_000, "message": MEGABYTE}, "c" * 200 + "... (4,800 more characters)", CUT),
    ],
)
def test_an_error_of_any_form_is_kept_without_secrets(error: Any, code: str | None, message: str | None) -> None:
    found = settled(error)
    assert found.code == code
    assert message is None or found.message == message
    assert KEY not in f"{found}"
    assert "s3cret" not in f"{found}"


def test_an_answer_is_left_as_it_is() -> None:
    text = f"{KEY} {SIGNED}\n\x1b[31m"
    row = ResultRow(custom_id="a", status="succeeded", content=text)
    RowErrors(None, without_key).clean_and_cut(row)
    assert row.content == text


def test_what_is_cut_is_kept_whole_and_what_is_not_is_not_kept() -> None:
    file = io.BytesIO()
    errors = RowErrors(file, without_key)
    for index, message in enumerate((MEGABYTE + KEY, "short")):
        row = ResultRow(index=index, custom_id=f"r{index}", status="failed", error=AnswerError("c", message))
        errors.clean_and_cut(row, at=7)
        errors.clean_and_cut(row, at=7)
    (whole,) = errors.whole()
    assert (whole.index, whole.custom_id, whole.code, whole.message, whole.at) == (0, "r0", "c", MEGABYTE + "***", 7)


def test_a_damaged_line_holds_up_nothing(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    with path.open("wb") as file:
        assert write_full_errors(file, [FullError(batch_id="b", message="one", at=3)]) == 1
        file.write(b'{"batch_id"\n\xff\n')
        write_full_errors(file, [FullError(batch_id="b", message="two", custom_id="r")])
    assert [(each.message, each.at) for each in read_full_errors(path)] == [("one", -1), ("two", -1)]


def split_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(each) for each in path.read_text().splitlines()]


class TestJob:
    """What a job writes."""

    @pytest.fixture
    def submitted(self, attempt: Attempt, clock: Any) -> Callable[..., JobRunner]:
        def submit(requests: int, **options: Any) -> JobRunner:
            runner = attempt(requests, **options)
            runner.submit(runner.parts)
            clock.advance(200)
            return attempt(requests, **options)

        return submit

    def test_a_megabyte_is_cut_in_its_row_and_whole_beside_it(
        self, submitted: Any, control: Control, tmp_path: Path
    ) -> None:
        control.plan(failing={"positions": [1], "message": MEGABYTE})
        manifest = submitted(3).finish(complete=True)
        out = tmp_path / "out"
        rows = split_lines(out / "results.jsonl")
        assert [each["error"] and each["error"]["message"] for each in rows] == [None, CUT, None]
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

    def test_five_thousand_errors_of_a_batch_are_whole_in_one_place(
        self, submitted: Any, control: Control, tmp_path: Path
    ) -> None:
        errors = [f"line {number}: {'not JSON ' * 20}" for number in range(1, 5_001)]
        control.plan(end="failed", errors=errors)
        manifest = submitted(40).finish(complete=True)
        out = tmp_path / "out"
        assert manifest["batches"][0]["errors"] == [*errors[:9], "and 4,991 more"]
        assert (out / "results.jsonl").stat().st_size < 40 * 2_500
        assert split_lines(out / "results.jsonl")[0]["error"]["message"].endswith("; and 4,996 more")
        whole = split_lines(out / "_siliconflow" / "errors.jsonl")
        assert [each["message"] for each in whole] == errors
        assert {(each["batch_id"], each["round"]) for each in whole} == {(manifest["batches"][0]["id"], 1)}

    def test_what_is_short_makes_no_file(self, submitted: Any, control: Control, tmp_path: Path) -> None:
        control.plan(failing={"positions": [1], "message": "no"})
        manifest = submitted(3).finish(complete=True)
        assert sorted(manifest["paths"]) == ["manifest", "results"]
        assert not (tmp_path / "out" / "_siliconflow" / "errors.jsonl").exists()

    def test_of_a_request_that_was_sent_again_its_last_error_is_there(
        self, submitted: Any, attempt: Attempt, control: Control, clock: Any, tmp_path: Path
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
        assert [(each["index"], each["round"], each["message"][:7]) for each in whole] == [(0, 2, "second ")]

    def test_what_the_service_has_forgotten_stays_whole(
        self, submitted: Any, attempt: Attempt, control: Control, clock: Any, tmp_path: Path
    ) -> None:
        control.plan(failing={"positions": [1], "message": MEGABYTE})
        submitted(3).finish(complete=True)
        before = (tmp_path / "out" / "_siliconflow" / "errors.jsonl").read_bytes()
        for seconds in (40 * DAY, 0):
            clock.advance(seconds)
            manifest = attempt(3).finish(complete=True)
            assert "errors" in manifest["paths"]
            assert (tmp_path / "out" / "_siliconflow" / "errors.jsonl").read_bytes() == before


def test_distinct_reasons_and_codes_of_a_batch_are_bounded() -> None:
    tally = Tally()
    for number in range(2_500):
        error = AnswerError(f"code {number}", f"message {number}")
        tally.add(ResultRow(custom_id="r", status="failed", error=error, finish_reason=f"{number}" * 100))
    assert len(tally.finish_reasons) == 255
    assert max(map(len, tally.finish_reasons)) < 250
    assert len(tally._errors) <= 2_001


def test_a_batch_with_short_errors_is_not_written_again(batch: Callable[..., Batch]) -> None:
    assert list(full_errors_of_batch(batch("failed", errors=["one", "two"]))) == []
