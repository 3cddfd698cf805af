from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from siliconflow_provider.outputs.answers import AnswerError, ResultRow, parse_answer
from tests.completions import BODY


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
        b'{"id": "x", "custom_id": "r1", "response": {"body": {"choi',
        b'{"custom_id": "r1", "deep": ' + b"[" * 100_000,
    ],
)
def test_a_line_with_id_always_has_a_row(line: bytes) -> None:
    row = parse(line)
    assert (row.custom_id, row.status, row.batch_id) == ("r1", "failed", "batch_1")
    assert row.error is not None
    assert row.error.code == "unreadable_answer"
    assert row.error.message


def test_a_text_instead_of_json_is_the_message() -> None:
    row = answered("Internal Server Error", status_code=500)
    assert row.error == AnswerError("500", "Internal Server Error", 500)
    row = answered("x" * 1000)
    assert row.error is not None
    assert (row.error.code, row.error.status) == ("unreadable_answer", None)
    # Secrets are removed from the whole text before it is cut.
    assert row.error.message == f"the answer's body is not JSON: {'x' * 1000}"


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
        b'{"custom_id": "r',
        b'{"error": {"custom_id": "r1", "code": 1',
    ],
    ids=lambda line: repr(line[:40]),
)
def test_a_line_without_id_is_an_error(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse(line)


LOGPROBS = {"content": [{"token": "A", "logprob": -0.25, "top_logprobs": [{"token": "B", "logprob": -1.5}]}]}


def test_refusals_and_logprobs_are_kept() -> None:
    refused = answered(BODY | {"choices": [choice(refusal="I can't help with that.")]})
    assert (refused.status, refused.content, refused.refusal) == ("succeeded", None, "I can't help with that.")
    first = {**choice(content="A"), "logprobs": LOGPROBS}
    one = json.loads(msgspec.json.encode(answered(BODY | {"choices": [first]})))
    assert one["logprobs"] == LOGPROBS
    assert "refusal" not in one
    two = answered(BODY | {"choices": [first, {**choice(content="B"), "index": 1, "logprobs": LOGPROBS}]})
    shown = json.loads(msgspec.json.encode(two))["choices"]
    assert [(row["index"], row["logprobs"]) for row in shown] == [(0, LOGPROBS), (1, LOGPROBS)]


def test_the_content_is_that_of_choice_zero() -> None:
    choices = [{**choice(content=text), "index": index} for text, index in (("c", 2), ("a", 0), ("b", 1))]
    row = answered(BODY | {"choices": choices})
    assert row.content == "a"
    assert [each.message.content for each in row.choices] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({}, None),
        ({"prompt_tokens_details": {"cached_tokens": 7}}, 7),
        ({"prompt_cache_hit_tokens": 7}, 7),
        ({"prompt_tokens_details": {}, "prompt_cache_hit_tokens": 7}, 7),
        ({"prompt_tokens_details": None}, None),
        ({"prompt_tokens_details": {"cached_tokens": "many"}}, None),
    ],
)
def test_cached_tokens_are_read_in_both_forms(usage: dict[str, Any], cached: int | None) -> None:
    assert answered(BODY | {"usage": BODY["usage"] | usage}).cached_tokens == cached


@pytest.mark.parametrize("error", [{}, {"code": None, "message": None}, {"message": ""}, None, "", []])
def test_an_empty_error_beside_an_answer_is_no_failure(error: Any) -> None:
    for line in ({"error": error, "response": {"body": BODY}}, {"response": {"body": BODY | {"error": error}}}):
        assert parse({"custom_id": "r1", **line}).status == "succeeded"


@pytest.mark.parametrize(
    ("status_code", "status"), [(400, 400), ("404", 404), (503, 503), (200, None), (0, None), (None, None)]
)
def test_an_error_has_the_status_of_its_response(status_code: Any, status: int | None) -> None:
    row = answered({"code": 20024, "message": "Json mode is not supported"}, status_code=status_code)
    assert row.error == AnswerError("20024", "Json mode is not supported", status)
