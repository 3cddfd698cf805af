from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.emulator.checks import check_input
from siliconflow_provider.emulator.state import Check

ENDPOINT = "/v1/chat/completions"
Line = Callable[..., dict[str, Any]]
Jsonl = Callable[[list[Any]], bytes]


def check(content: bytes, model: str | None = None) -> Check:
    return check_input(content.splitlines(keepends=True), ENDPOINT, model)


def test_valid_file_passes(sums: Callable[[int], bytes]) -> None:
    assert check(sums(5_000)) == Check(5_000)


def test_blank_lines_are_skipped_but_numbered(line: Line, jsonl: Jsonl) -> None:
    found = check(jsonl([line("a", "x"), "", "  ", "nonsense", line("b", "x")]))
    assert found == Check(3, errors=("line 4: not JSON",))


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("{", "line 2: not JSON"),
        ("\ufeff{}", "line 2: not JSON"),
        ("[]", "line 2: not a JSON object"),
        ({"body": {}}, "line 2: custom_id is missing or not a string"),
        ({"custom_id": ""}, "line 2: custom_id is missing or not a string"),
        ({"custom_id": 7}, "line 2: custom_id is missing or not a string"),
        ({"custom_id": "a"}, "line 2: custom_id 'a' is not unique"),
        ({"custom_id": "b"}, "line 2: body.model is missing"),
        ({"custom_id": "b", "body": {"messages": []}}, "line 2: body.model is missing"),
        ({"custom_id": "b", "body": {"model": 1}}, "line 2: body.model is missing"),
        ({"custom_id": "b", "body": {"model": "other"}}, "line 2: body.model 'other' differs from"),
    ],
)
def test_error_of_a_batch_has_its_line(line: Line, jsonl: Jsonl, bad: Any, error: str) -> None:
    (found,) = check(jsonl([line("a", "x"), bad])).errors
    assert found.startswith(error)


def test_invalid_utf_8_is_not_json() -> None:
    assert check(b'{"custom_id": "\xff"}\n').errors == ("line 1: not JSON",)


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\t\n"])
def test_file_without_lines_fails(content: bytes) -> None:
    assert check(content).errors == ("the input file has no line",)


def test_file_has_at_most_5000_requests(sums: Callable[[int], bytes]) -> None:
    assert check(sums(5_002)).errors == ("line 5001: a file has at most 5,000 requests",)


def test_the_first_ten_errors_are_named() -> None:
    errors = check(b"{\n" * 20).errors
    assert [error.split(":")[0] for error in errors] == [f"line {number}" for number in range(1, 11)]


def test_replaced_models_may_differ_or_be_missing(line: Line, jsonl: Jsonl) -> None:
    lines = [line("a", "x"), line("b", "x", model="other"), line("c", "x", model=None)]
    assert check(jsonl(lines), "deepseek-ai/DeepSeek-R1") == Check(3)


def test_failing_requests_are_stored_by_position(line: Line, jsonl: Jsonl) -> None:
    lines = [line("a", "x"), line("b", "x", max_tokens=0), line("c", "x"), line("d", "x", messages=[])]
    assert check(jsonl(lines)) == Check(4, bad=(1, 3))


def test_too_deeply_nested_line_is_not_json() -> None:
    assert check_input([b"[" * 100_000], "/v1/chat/completions", "m").errors == ("line 1: not JSON",)
