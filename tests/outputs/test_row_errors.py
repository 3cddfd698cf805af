from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.outputs.answers import AnswerError, ResultRow, parse_answer
from siliconflow_provider.outputs.row_errors import (
    FullError,
    RowErrors,
    full_errors_of_batch,
    read_full_errors,
    write_full_errors,
)

MEGABYTE = "e" * 1_000_000
CUT = "e" * 2_000 + "... (998,000 more characters)"
SIGNED = "https://images.example/cat.png?Signature=s3cret"
KEY = "sk-Zm9v7Qx9Zm9v7Qx9"


def without_key(text: str) -> str:
    return text.replace(KEY, "***").replace("?Signature=s3cret", "?...")


def settled(error: Any) -> AnswerError:
    """Return the cleaned error of a line in an error file."""
    line = json.dumps({"custom_id": "a", "response": None, "error": error}).encode()
    row = parse_answer(line, "batch_1")
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
def test_errors_of_any_form_have_no_secrets(error: Any, code: str | None, message: str | None) -> None:
    found = settled(error)
    assert found.code == code
    assert message is None or found.message == message
    assert KEY not in f"{found}"
    assert "s3cret" not in f"{found}"


def test_a_row_without_error_stays_unchanged() -> None:
    text = f"{KEY} {SIGNED}\n\x1b[31m"
    row = ResultRow(custom_id="a", status="succeeded", content=text)
    RowErrors(None, without_key).clean_and_cut(row)
    assert row.content == text


def test_only_cut_errors_are_stored_in_full() -> None:
    file = io.BytesIO()
    errors = RowErrors(file, without_key)
    for index, message in enumerate((MEGABYTE + KEY, "short")):
        row = ResultRow(index=index, custom_id=f"r{index}", status="failed", error=AnswerError("c", message))
        errors.clean_and_cut(row, row_offset=7)
        errors.clean_and_cut(row, row_offset=7)
    (whole,) = errors.full_errors()
    assert (whole.index, whole.custom_id, whole.code, whole.message, whole.row_offset) == (
        0,
        "r0",
        "c",
        MEGABYTE + "***",
        7,
    )


def test_a_damaged_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    with path.open("wb") as file:
        assert write_full_errors(file, [FullError(batch_id="b", message="one", row_offset=3)]) == 1
        file.write(b'{"batch_id"\n\xff\n')
        write_full_errors(file, [FullError(batch_id="b", message="two", custom_id="r")])
    assert [(error.message, error.row_offset) for error in read_full_errors(path)] == [
        ("one", -1),
        ("two", -1),
    ]


def test_short_batch_errors_are_not_stored_in_full(batch: Callable[..., Batch]) -> None:
    assert list(full_errors_of_batch(batch("failed", errors=["one", "two"]))) == []
