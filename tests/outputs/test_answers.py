from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from siliconflow_provider.outputs.answers import AnswerError, ResultRow, parse_answer

MESSAGE = {"role": "assistant", "content": "4"}
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1741686000,
    "model": "deepseek-ai/DeepSeek-V3",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 120, "total_tokens": 140},
}


def parse(line: Any) -> ResultRow:
    return parse_answer(line if isinstance(line, bytes) else json.dumps(line).encode(), "batch_1")


def answered(body: Any, **response: Any) -> ResultRow:
    return parse({"id": "req_1", "custom_id": "r1", "response": {"body": body, **response}, "error": None})


def choice(**message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": None} | message, "finish_reason": "stop"}


def test_reasoning_and_tool_calls_are_kept() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    row = answered(BODY | {"choices": [choice(reasoning_content="because", tool_calls=calls)]})
    assert (row.status, row.content, row.reasoning_content, row.tool_calls) == ("succeeded", None, "because", calls)


def test_several_choices_are_all_kept() -> None:
    encoded = json.loads(msgspec.json.encode(answered(BODY)))
    assert "choices" not in encoded
    assert "output" not in encoded
    two = answered(BODY | {"choices": [choice(content="4"), choice(content="four")]})
    assert two.content == "4"
    shown = json.loads(msgspec.json.encode(two))["choices"]
    assert [row["message"]["content"] for row in shown] == ["4", "four"]
    assert [row["finish_reason"] for row in shown] == ["stop", "stop"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"custom_id": "r1", "response": 7}',
        b'{"custom_id": "r1", "response": "Internal Server Error"}',
        b'{"custom_id": "r1", "response": {"body": 7}}',
        b'{"custom_id": "r1", "response": {"body": []}}',
        b'{"custom_id": "r1", "response": {"body": ""}}',
        b'{"custom_id": "r1", "response": {"body": "null"}}',
        b'{"custom_id": "r1", "response": {"body": "Internal Server Error"}}',
        b'{"custom_id": "r1", "response": {"body": "{\\"choices\\": ["}}',
        b'{"custom_id": "r1", "response": {"body": {"choices": "none"}}}',
        b'{"custom_id": "r1", "response": {"body": {"choices": [null]}}}',
        b'{"custom_id": "r1", "response": {"body": {"choices": [{"message": null}]}}}',
    ],
)
def test_a_line_with_id_always_has_a_row(line: bytes) -> None:
    row = parse(line)
    assert (row.custom_id, row.status, row.batch_id) == ("r1", "failed", "batch_1")
    assert row.error is not None
    assert row.error.code == "unreadable_answer"
    assert row.error.message


def test_a_body_that_is_no_json_is_quoted() -> None:
    row = answered("Internal Server Error", status_code=500)
    assert row.error == AnswerError("unreadable_answer", "the answer's body is not JSON: Internal Server Error")
    row = answered("x" * 1000)
    assert row.error is not None
    assert len(row.error.message) < 300


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b'{"custom_id": 7}',
        b'{"id": "x", "error": null}',
        b"\xff",
        b'{"custom_id": "\xff", broken',
        b'{"custom_id": "r1", "deep": ' + b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:40]),
)
def test_a_line_without_id_is_an_error(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse(line)
