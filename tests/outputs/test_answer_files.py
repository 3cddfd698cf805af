from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from siliconflow_provider.jsonl import LONG_LINE_BYTES, LongLine
from siliconflow_provider.outputs import answer_files
from siliconflow_provider.outputs.answer_files import rows_of_file
from siliconflow_provider.outputs.answers import AnswerError, ResultRow, parse_answer
from siliconflow_provider.outputs.completeness import contents_of

MESSAGE = {"role": "assistant", "content": "é", "reasoning_content": "so", "tool_calls": [{"id": "t"}]}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
BODY = {"id": "c", "choices": [CHOICE], "usage": {"prompt_tokens": 2, "completion_tokens": 0}, "model": "m"}
LINE = {"id": "b", "custom_id": "a", "response": {"body": BODY}, "error": None}


def line(custom_id: str = "a", **body: Any) -> bytes:
    return json.dumps({**LINE, "custom_id": custom_id, "response": {"body": {**BODY, **body}}}).encode() + b"\n"


class Counts:
    """The counts of `rows_of_file`."""

    unreadable_lines = 0


def rows_of(*blocks: bytes) -> list[ResultRow]:
    return list(rows_of_file(blocks, "batch_1", "output", Counts()))


def test_lines_of_the_usual_form_are_decoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_files, "parse_answer", None)
    status = json.dumps({**LINE, "response": {"status_code": 200, "body": BODY}}).encode() + b"\n"
    assert [row.custom_id for row in rows_of(line("a") + line("b") + status)] == ["a", "b", "a"]


@pytest.mark.parametrize(
    "other",
    [
        line(),
        line(choices=[CHOICE, CHOICE]),
        line(choices=[]),
        line(choices=None, message="refused", code=50505),
        line(choices=[{"finish_reason": "stop"}]),
        line(choices=[{"message": {"content": ["parts"]}, "finish_reason": 7}]),
        line(usage=None),
        line(usage={"prompt_tokens": 2.0, "completion_tokens": True}),
        line(usage={"prompt_tokens": -1, "completion_tokens": 1}),
        line(usage={"prompt_tokens": 1, "completion_tokens": 2**53}),
        line(usage={"prompt_tokens": 2**53 - 1, "total_tokens": "x"}),
        line(error={}),
        line(error={"message": "no"}),
        line(model=7),
        json.dumps({**LINE, "response": {"body": json.dumps(BODY)}}).encode() + b"\n",
        json.dumps({**LINE, "response": {"body": BODY, "status_code": 429}}).encode() + b"\n",
        json.dumps({**LINE, "response": {"body": BODY, "status_code": "200"}}).encode() + b"\n",
        json.dumps({**LINE, "response": None, "error": {"code": "batch_expired"}}).encode() + b"\n",
        line().replace(b'"\\u00e9"', b'"\\ud83d"'),
        line().replace(b'"\\u00e9"', b'"\xff"'),
        line().replace(b'"c"', b'"\xff"'),
        line().replace(b'"c"', b"NaN"),
        line().replace(b'"c"', b"1e999"),
        line().replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + line(),
        b"\n" + line(),
        line().strip(),
    ],
)
def test_a_line_gives_the_same_row_alone(other: bytes) -> None:
    together = rows_of(line("before") + other)
    assert together == [parse_answer(line("before"), "batch_1"), parse_answer(other.strip(), "batch_1")]
    for row in together:
        row.index = 0
        assert msgspec.json.decode(msgspec.json.encode(row), type=ResultRow).custom_id == row.custom_id


def test_lines_are_numbered_through_all_blocks(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    blocks = [line() + line(), line() + b"\n" + b"{broken\n", b"", b"{broken\n" + line()]
    assert len(list(rows_of_file(blocks, "batch_1", "error", counts))) == 4
    assert counts.unreadable_lines == 2
    assert [message.partition(": ")[0] for message in caplog.messages] == [
        f"ignored unreadable line {number} of the error file of batch_1" for number in (5, 6)
    ]


def test_only_the_first_unreadable_lines_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    assert list(rows_of_file([b"{broken\n"] * 500, "batch_1", "output", counts)) == []
    assert (len(caplog.messages), counts.unreadable_lines) == (10, 500)


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens": 10, "prompt_cache_hit_tokens": 9}, 9),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 10_000}}, 10),
        ({"prompt_tokens": 10, "prompt_cache_hit_tokens": 10_000}, 10),
        ({"prompt_cache_hit_tokens": 10_000}, 0),
    ],
)
def test_cached_tokens_are_some_of_the_prompt(usage: dict[str, Any], cached: int) -> None:
    """Otherwise the sum of a job would have fewer uncached tokens than its rows."""
    answer = line(usage=usage)
    assert {row.cached_tokens for row in (*rows_of(answer), parse_answer(answer, "batch_1"))} == {cached}


@pytest.mark.parametrize("block", [b"[]\n", b"\xff\xfe\n", b'{"a":' + b"[" * 100_000, b"7\n", b"{}\n"], ids=range(5))
def test_an_unreadable_line_does_not_affect_others(block: bytes) -> None:
    counts = Counts()
    rows = rows_of_file([line("a"), block, line("b")], "batch_7", "output", counts)
    assert [(row.custom_id, row.batch_id) for row in rows] == [("a", "batch_7"), ("b", "batch_7")]
    assert counts.unreadable_lines == 1


def test_blank_lines_are_no_rows() -> None:
    assert rows_of() == rows_of(b"\n", b" \r\n", b"") == []


@pytest.mark.parametrize("custom_id", ["a", "a,b", 'a", "custom_id": "b', "é" * 64, "\U0001f600" * 64], ids=len)
def test_a_too_long_answer_is_a_failed_row(custom_id: str) -> None:
    beginning = LongLine(line(custom_id, model="x" * LONG_LINE_BYTES)[:LONG_LINE_BYTES])
    (row,) = rows_of(line("z"), beginning, line("z"))[1:2]
    assert (row.custom_id, row.status, row.content) == (custom_id, "failed", None)
    said = "the answer's line has more than 33,554,432 bytes or 2,000,000 opening brackets"
    assert row.error == AnswerError("answer_too_long", said)
    assert contents_of([beginning]).ids == {custom_id: 1}


@pytest.mark.parametrize(
    "beginning", [b"", b'{"response": {"custom_id": "a", "x": "', b'{"id": "a"', b"[" * 2_000, b"," * 2_000]
)
def test_a_too_long_line_without_id_is_counted(beginning: bytes) -> None:
    counts = Counts()
    (row,) = rows_of_file([LongLine(beginning), line("z")], "batch_1", "output", counts)
    assert row.custom_id == "z"
    assert counts.unreadable_lines == (1 if beginning else 0)
    assert contents_of([LongLine(beginning)]).unreadable == (1 if beginning else 0)
