from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.inputs.request_lines import (
    InvalidRequestFileError,
    LineProblem,
    RequestFileReport,
    check_request_file,
)

Line = Callable[..., dict[str, Any]]
Jsonl = Callable[[list[Any]], bytes]
USER = [{"role": "user", "content": "hi"}]


def check(content: bytes) -> RequestFileReport:
    copy = io.BytesIO()
    report = check_request_file(io.BytesIO(content), copy)
    assert copy.getvalue() == content
    return report


def problem(line: bytes | str) -> str:
    report = check(line if isinstance(line, bytes) else line.encode())
    assert (report.lines, report.problem_count, len(report.problems)) == (1, 1, 1)
    assert report.problems[0].number == 1
    return report.problems[0].reason


def with_body(**body: Any) -> str:
    return json.dumps({"custom_id": "a", "body": {"messages": USER} | body})


GOOD: list[Any] = [
    {"custom_id": "a", "body": {"messages": USER}},
    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": USER}},
    {"custom_id": "a", "body": {"messages": USER, "model": None, "thinking_budget": None}},
    {"custom_id": "a", "body": {"messages": USER, "thinking_budget": 128, "temperature": 0, "n": 2, "new": {}}},
    {"custom_id": "a", "body": {"messages": USER, "thinking_budget": 32768}},
    {"custom_id": "é" * 64, "body": {"messages": USER}},
    {"custom_id": "вопрос 1", "body": {"messages": USER}, "note": "extra"},
    {"custom_id": "a", "body": {"messages": [{"role": "user", "content": [{"type": "text", "text": "é"}]}]}},
    {
        "custom_id": "a",
        "body": {"messages": [{"role": "system", "content": ""}, *USER, {"role": "assistant", "content": ""}, *USER]},
    },
]


@pytest.mark.parametrize("request_line", GOOD)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"", b"  \n"])
def test_a_good_line_passes_with_any_end(request_line: Any, end: bytes) -> None:
    for ascii_only in (True, False):
        report = check(json.dumps(request_line, ensure_ascii=ascii_only).encode() + end)
        assert (report.lines, report.problem_count, report.problems) == (1, 0, [])
        report.raise_for_problems("a.jsonl")


BAD: list[tuple[Any, str]] = [
    ("\n", "the line is blank"),
    (" \t\r\n", "the line is blank"),
    ("not json", "not JSON in UTF-8: JSON is malformed: invalid character"),
    ('{"custom_id": "a"', "not JSON in UTF-8: Input data was truncated"),
    (json.dumps(GOOD[0]) + "{}", "not JSON in UTF-8: JSON is malformed"),
    ("[]", "Expected `object`, got `array`"),
    ("null", "Expected `object`, got `null`"),
    ('"text"', "Expected `object`, got `str`"),
    ("{}", "Object missing required field `custom_id`"),
    ('{"custom_id": "a"}', "Object missing required field `body`"),
    ('{"custom_id": 7, "body": {}}', "Expected `str`, got `int` - at `$.custom_id`"),
    ('{"custom_id": null, "body": {}}', "Expected `str`, got `null` - at `$.custom_id`"),
    ('{"custom_id": "a", "body": []}', "Expected `object`, got `array` - at `$.body`"),
    ('{"custom_id": "a", "body": {}}', "Object missing required field `messages` - at `$.body`"),
    (json.dumps({"custom_id": "", "body": {"messages": USER}}), "custom_id is empty"),
    (
        json.dumps({"custom_id": " a", "body": {"messages": USER}}),
        "custom_id ' a' begins or ends with a blank: remove it",
    ),
    (json.dumps({"custom_id": "a\n", "body": {"messages": USER}}), r"custom_id 'a\n' begins or ends with a blank"),
    (
        json.dumps({"custom_id": "a" * 65, "body": {"messages": USER}}),
        f"custom_id '{'a' * 36}... has 65 characters: give at most 64, such as a hash of it",
    ),
    (with_body(messages=[]), "body.messages is empty"),
    (with_body(messages="hi"), "Expected `array`, got `str` - at `$.body.messages`"),
    (with_body(messages=["hi"]), "Expected `object`, got `str` - at `$.body.messages["),
    (with_body(messages=[{"content": "hi"}]), "Object missing required field `role` - at `$.body.messages["),
    (
        with_body(messages=[{"role": "tool", "content": ""}, *USER]),
        "body.messages has the role 'tool', the service takes system, user, assistant",
    ),
    (
        with_body(messages=[*USER, {"role": "assistant", "content": "hi"}]),
        "the last of body.messages is from 'assistant', the service takes 'user'",
    ),
    (with_body(model=7), "Expected `str | null`, got `int` - at `$.body.model`"),
    (with_body(messages=[{"role": "user"}]), "the last of body.messages has a content that is neither text nor a list"),
    (with_body(messages=[{"role": "user", "content": {}}]), "the last of body.messages has a content that is neither"),
    (with_body(x=0).replace("0", "1e999"), "Number out of range"),
    (with_body(x=0).replace("0", "9" * 5000), "Integer value out of range"),
    (with_body(x=0).replace("0", "[" * 100_000 + "]" * 100_000), "it is nested too deeply to be read"),
    (with_body(messages=[{"role": "x" * 10_000, "content": ""}]), f"body.messages has the role '{'x' * 36}..., the"),
    (with_body(thinking_budget=127), "body.thinking_budget is 127, the service takes 128 to 32,768"),
    (with_body(thinking_budget=32769), "body.thinking_budget is 32,769, the service takes 128 to 32,768"),
    (with_body(thinking_budget="many"), "Expected `int | null`, got `str` - at `$.body.thinking_budget`"),
    (
        json.dumps({"custom_id": "a", "method": "GET", "body": {"messages": USER}}),
        "method is 'GET', the service takes 'POST'",
    ),
    (
        json.dumps({"custom_id": "a", "url": "/v1/embeddings", "body": {"messages": USER}}),
        "url is '/v1/embeddings', the service takes '/v1/chat/completions'",
    ),
    (json.dumps(GOOD[0]).encode("utf-16"), "not JSON in UTF-8: "),
    (b'{"custom_id": "\xff"}', "not JSON in UTF-8: 'utf-8' codec can't decode byte 0xff"),
    (
        json.dumps(GOOD[0]).encode().replace(b"hi", b"caf\xe9"),
        "not JSON in UTF-8: 'utf-8' codec can't decode byte 0xe9",
    ),
    (json.dumps(GOOD[0]).encode().replace(b"hi", b"a\x00b"), "not JSON in UTF-8: JSON is malformed"),
    (b"\xef\xbb\xbf" + json.dumps(GOOD[0]).encode(), "it begins with a byte order mark"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_is_named_with_its_reason(line: Any, reason: str) -> None:
    assert problem(line).startswith(reason)


def test_a_file_is_copied_and_measured_while_it_is_checked(sums: Callable[[int], bytes]) -> None:
    content = sums(3).rstrip(b"\n").replace(b"\n", b"\r\n")
    report = check(content)
    assert (report.lines, report.bytes) == (3, len(content))
    assert report.sha256 == hashlib.sha256(content).hexdigest()


def test_lines_may_come_from_anywhere(sums: Callable[[int], bytes]) -> None:
    copy = io.BytesIO()
    report = check_request_file(iter(sums(3).splitlines(keepends=True)), copy)
    assert (copy.getvalue(), report.lines) == (sums(3), 3)


def test_models_are_noted_with_their_first_lines(line: Line, jsonl: Jsonl) -> None:
    lines = [line("a", "x"), line("b", "x", model="m"), line("c", "x"), {"custom_id": "d", "body": {"messages": USER}}]
    assert check(jsonl(lines)).models == {"deepseek-ai/DeepSeek-V3": 1, "m": 2, None: 4}
    assert check(jsonl([line("a", "x", model="")])).models == {None: 1}


def test_a_repeated_id_is_named_with_both_lines(line: Line, jsonl: Jsonl) -> None:
    lines = [line(f"r{number}", "x") for number in range(1, 5001)]
    lines[4710] = line("r17", "x")
    report = check(jsonl(lines))
    assert report.problems == [
        LineProblem(4711, "custom_id 'r17' is already on line 17: it must be unique in the file")
    ]
    lines[4711 + 7] = line("r4710", "x")
    with pytest.raises(InvalidRequestFileError) as caught:
        check(jsonl(lines)).raise_for_problems("s3://bucket/a.jsonl")
    assert str(caught.value) == (
        "s3://bucket/a.jsonl was not uploaded, 2 of 5,000 lines are bad; mend them and run the task again:\n"
        "  line 4,711: custom_id 'r17' is already on line 17: it must be unique in the file\n"
        "  line 4,719: custom_id 'r4710' is already on line 4,710: it must be unique in the file"
    )


def test_the_first_ten_bad_lines_are_named_and_the_rest_counted(line: Line, jsonl: Jsonl) -> None:
    lines = [line(f"r{number}", "x") if number % 2 else "" for number in range(2600)]
    report = check(jsonl(lines))
    assert (report.problem_count, [each.number for each in report.problems]) == (1300, list(range(1, 20, 2)))
    with pytest.raises(InvalidRequestFileError) as caught:
        report.raise_for_problems("a.jsonl")
    first, *named, last = str(caught.value).split("\n")
    assert first == "a.jsonl was not uploaded, 1,300 of 2,600 lines are bad; mend them and run the task again:"
    assert named == [f"  line {number}: the line is blank" for number in range(1, 20, 2)]
    assert last == "  and 1,290 more bad lines"


def test_too_many_lines_are_an_error_of_the_file(sums: Callable[[int], bytes]) -> None:
    check(sums(5000)).raise_for_problems("a.jsonl")
    with pytest.raises(InvalidRequestFileError) as caught:
        check(sums(5001)).raise_for_problems("a.jsonl")
    assert str(caught.value) == (
        "a.jsonl was not uploaded, it is too large; cut it and run the task again:\n"
        "  it has 5,001 lines, the service takes 5,000"
    )


def test_too_many_bytes_are_an_error_of_the_file() -> None:
    with pytest.raises(InvalidRequestFileError, match="it has 1,000,000,001 bytes, the service takes 1,000,000,000"):
        RequestFileReport(lines=1, bytes=10**9 + 1).raise_for_problems("a.jsonl")


def test_everything_that_is_wrong_is_told_at_once(sums: Callable[[int], bytes]) -> None:
    with pytest.raises(InvalidRequestFileError) as caught:
        check(sums(5000) + b"\n").raise_for_problems("a.jsonl")
    assert str(caught.value) == (
        "a.jsonl was not uploaded, 1 of 5,001 lines are bad; mend them and run the task again:\n"
        "  it has 5,001 lines, the service takes 5,000\n"
        "  line 5,001: the line is blank"
    )


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(InvalidRequestFileError, match=r"^a\.jsonl is empty: write one request a line to it$"):
        check(b"").raise_for_problems("a.jsonl")


def test_the_ids_of_a_file_that_is_far_too_long_are_not_all_kept(sums: Callable[[int], bytes]) -> None:
    report = check(sums(5002) + sums(1) + sums(5002).splitlines(keepends=True)[-1])
    assert [each.number for each in report.problems] == [5003]
