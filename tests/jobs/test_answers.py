from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from siliconflow_provider.jobs.answers import AnswerError, ResultRow, parse_answer

MESSAGE = {"role": "assistant", "content": "4"}
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1741686000,
    "model": "deepseek-ai/DeepSeek-V3",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 120, "total_tokens": 140},
}
ROW = ResultRow(
    custom_id="r1",
    status="succeeded",
    content="4",
    finish_reason="stop",
    prompt_tokens=20,
    completion_tokens=120,
    model="deepseek-ai/DeepSeek-V3",
    batch_id="batch_1",
)


def parse(line: Any) -> ResultRow:
    return parse_answer(line if isinstance(line, bytes) else json.dumps(line).encode(), "batch_1")


def answered(body: Any, **response: Any) -> ResultRow:
    return parse({"id": "req_1", "custom_id": "r1", "response": {"body": body, **response}, "error": None})


def choice(**message: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": None} | message, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "response",
    [
        {"body": BODY},
        {"status_code": 200, "request_id": "trace-1", "body": BODY},
        {"status_code": None, "body": BODY},
        {"status_code": "200", "body": BODY},
        {"body": json.dumps(BODY)},
        {"status_code": 200, "body": json.dumps(BODY)},
        {"body": BODY | {"error": None, "code": 20000, "message": "Ok"}},
        {"body": BODY | {"error": None, "code": None, "message": ""}},
    ],
)
@pytest.mark.parametrize("error", [{"error": None}, {}, {"error": {}}])
def test_an_answer_is_read_in_every_form(response: Any, error: Any) -> None:
    assert parse({"id": "req_1", "custom_id": "r1", "response": response, **error}) == ROW


def test_reasoning_and_tool_calls_are_kept() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    row = answered(BODY | {"choices": [choice(reasoning_content="because", tool_calls=calls)]})
    assert (row.status, row.content, row.reasoning_content, row.tool_calls) == ("succeeded", None, "because", calls)


def test_content_may_be_of_any_type() -> None:
    parts = [{"type": "text", "text": "4"}]
    assert answered(BODY | {"choices": [choice(content=parts)]}).content == parts


def test_all_choices_are_kept_only_when_there_are_several() -> None:
    encoded = json.loads(msgspec.json.encode(answered(BODY)))
    assert "choices" not in encoded
    assert "output" not in encoded
    two = answered(BODY | {"choices": [choice(content="4"), choice(content="four")]})
    assert two.content == "4"
    shown = json.loads(msgspec.json.encode(two))["choices"]
    assert [each["message"]["content"] for each in shown] == ["4", "four"]
    assert [each["finish_reason"] for each in shown] == ["stop", "stop"]


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        ({"usage": None}, {"prompt_tokens": None, "completion_tokens": None}),
        ({"usage": []}, {"prompt_tokens": None, "completion_tokens": None}),
        ({"usage": "none"}, {"prompt_tokens": None, "completion_tokens": None}),
        ({"usage": {}}, {"prompt_tokens": None, "completion_tokens": None}),
        ({"usage": {"prompt_tokens": 20.0, "completion_tokens": "many"}}, {"completion_tokens": None}),
        ({"model": None}, {"model": None}),
        ({"model": 7}, {"model": "7"}),
        ({"created": "yesterday", "id": None, "new": [[]]}, {}),
        ({"choices": [{"message": MESSAGE}]}, {"finish_reason": None}),
        ({"choices": [{"message": MESSAGE, "finish_reason": 7}]}, {"finish_reason": "7"}),
        ({"choices": [{"message": MESSAGE, "finish_reason": "stop", "logprobs": None}]}, {}),
    ],
    ids=repr,
)
def test_an_odd_type_costs_no_answer(odd: Any, expected: dict[str, Any]) -> None:
    assert answered(BODY | odd) == msgspec.structs.replace(ROW, **expected)


EXPIRED = "This request could not be executed before the completion window expired."


@pytest.mark.parametrize(
    ("line", "status", "code", "message"),
    [
        (
            {"response": None, "error": {"code": "batch_expired", "message": EXPIRED}},
            "expired",
            "batch_expired",
            EXPIRED,
        ),
        ({"error": {"code": "batch_cancelled", "message": "c"}}, "cancelled", "batch_cancelled", "c"),
        ({"error": {"code": "invalid_request", "message": "bad"}}, "failed", "invalid_request", "bad"),
        ({"error": {"code": 20012, "message": "bad"}}, "failed", "20012", "bad"),
        ({"error": {"code": 20012}}, "failed", "20012", "20012"),
        ({"error": {"message": "bad"}}, "failed", None, "bad"),
        ({"error": {"reason": "odd"}}, "failed", None, "no reason given"),
        ({"error": "bad"}, "failed", None, "bad"),
        ({"error": ["bad"]}, "failed", None, "['bad']"),
        ({"error": {"message": "bad"}, "response": {"body": BODY}}, "failed", None, "bad"),
        (
            {"response": {"status_code": 429, "body": BODY}},
            "failed",
            "429",
            "the request was answered with status 429",
        ),
        (
            {"response": {"status_code": 400, "body": {"error": {"code": "x", "message": "bad"}}}},
            "failed",
            "x",
            "bad",
        ),
        (
            {"response": {"status_code": 400, "body": {"code": 20012, "message": "bad", "data": None}}},
            "failed",
            "20012",
            "bad",
        ),
        ({"response": {"body": {"code": 50505, "message": "overloaded"}}}, "failed", "50505", "overloaded"),
        ({"response": {"status_code": 500, "body": None}}, "failed", "500", "the request was answered with status 500"),
        ({"response": {"body": None}}, "failed", "no_choices", "the answer has no choices"),
        ({"response": {"body": {}}}, "failed", "no_choices", "the answer has no choices"),
        ({"response": {"body": BODY | {"choices": []}}}, "failed", "no_choices", "the answer has no choices"),
        ({"response": {}}, "failed", "no_choices", "the answer has no choices"),
        ({"response": None}, "failed", "no_choices", "the answer has no choices"),
        ({}, "failed", "no_choices", "the answer has no choices"),
    ],
    ids=repr,
)
def test_a_failure_is_read_in_every_form(line: Any, status: str, code: str | None, message: str) -> None:
    row = parse({"id": "req_1", "custom_id": "r1", **line})
    assert row == ResultRow(custom_id="r1", status=status, error=AnswerError(code, message), batch_id="batch_1")


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
        b'{"custom_id": "r1", "response": {"body": {"choices": [{"message": {"content": "caf\xe9"}}]}}}',
    ],
)
def test_a_line_that_names_its_request_never_loses_its_row(line: bytes) -> None:
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
    [b"not json", b"", b"{", b"{}", b"[]", b"null", b'{"custom_id": 7}', b'{"id": "x", "error": null}', b"\xff"],
)
def test_a_line_that_names_no_request_is_an_error(line: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        parse(line)
