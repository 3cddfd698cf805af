"""All known forms of lines in output and error files.

Each row of a table says who shows the form.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from siliconflow_provider.outputs.answers import AnswerError, ResultRow, parse_answer
from tests.completions import BODY, MESSAGE

LIVE = "seen live"
OPENAI = "OpenAI-compatible server"
NOBODY = "nobody yet"

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


def by_source(table: list[Any]) -> Any:
    """Turn rows that begin with their source into parameters that show it."""
    return [pytest.param(*row[1:], id=f"{row[0]}: {str(row[1])[:60]}") for row in table]


def parse(line: Any) -> ResultRow:
    return parse_answer(line if isinstance(line, bytes) else json.dumps(line).encode(), "batch_1")


def choices(**fields: Any) -> dict[str, Any]:
    """Return a response whose body has one choice with these fields."""
    return {"body": BODY | {"choices": [{"message": MESSAGE, "finish_reason": "stop"} | fields]}}


def usage(**tokens: Any) -> dict[str, Any]:
    """Return a response whose body has this usage."""
    return {"body": BODY | {"usage": tokens}}


# The response, and the differences from the plain row.
ANSWERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (LIVE, {"body": BODY}, {}),
    (LIVE, choices(message=MESSAGE | {"reasoning_content": "2 + 2"}), {"reasoning_content": "2 + 2"}),
    (OPENAI, {"status_code": 200, "request_id": "trace-1", "body": BODY}, {}),
    (OPENAI, {"body": json.dumps(BODY)}, {}),
    (OPENAI, {"status_code": 200, "body": json.dumps(BODY, indent=1)}, {}),
    (OPENAI, choices(message={"content": None, "tool_calls": []}), {"content": None, "tool_calls": []}),
    (OPENAI, choices(message={"content": [{"type": "text"}]}), {"content": [{"type": "text"}]}),
    (OPENAI, choices(logprobs=None, finish_reason=None), {"finish_reason": None}),
    (OPENAI, {"body": BODY | {"usage": None}}, {"prompt_tokens": None, "completion_tokens": None}),
    (NOBODY, {"status_code": None, "body": BODY}, {}),
    (NOBODY, {"status_code": "200", "body": BODY}, {}),
    (NOBODY, {"body": BODY | {"error": None, "code": 20000, "message": "Ok"}}, {}),
    (NOBODY, {"body": BODY | {"error": None, "code": None, "message": ""}}, {}),
    (NOBODY, {"body": BODY | {"created": "yesterday", "id": None, "new": [[]]}, "newer": {"a": {}}}, {}),
    (NOBODY, {"body": BODY | {"usage": []}}, {"prompt_tokens": None, "completion_tokens": None}),
    (NOBODY, {"body": BODY | {"usage": "none"}}, {"prompt_tokens": None, "completion_tokens": None}),
    (NOBODY, usage(prompt_tokens=20.0, completion_tokens="2"), {"completion_tokens": 2}),
    (NOBODY, usage(prompt_tokens=float("inf"), completion_tokens=120), {"prompt_tokens": None}),
    (NOBODY, {"body": BODY | {"score": float("nan")}}, {}),
    (NOBODY, {"body": json.dumps(BODY | {"score": float("nan")})}, {}),
    (NOBODY, {"body": BODY | {"model": None}}, {"model": None}),
    (NOBODY, {"body": BODY | {"model": 7}}, {"model": "7"}),
    (NOBODY, choices(finish_reason=7), {"finish_reason": "7"}),
    (NOBODY, usage(prompt_tokens=10**30, completion_tokens=1e300), {"prompt_tokens": None, "completion_tokens": None}),
    (NOBODY, usage(prompt_tokens=-1, completion_tokens=True), {"prompt_tokens": None, "completion_tokens": None}),
    (NOBODY, choices(message=MESSAGE | {"content": "half \ud83d"}), {"content": "half \ufffd"}),
]


@pytest.mark.parametrize("error", [{"error": None}, {}, {"error": {}}, {"error": None, "unknown": {"a": [1]}}])
@pytest.mark.parametrize(("response", "expected"), by_source(ANSWERS))
def test_an_answer_is_read_in_every_form(response: Any, expected: dict[str, Any], error: Any) -> None:
    row = parse({"id": "req_1", "custom_id": "r1", "response": response, **error})
    assert row == msgspec.structs.replace(ROW, **expected)
    assert json.loads(msgspec.json.encode(row))["custom_id"] == "r1"


LINE = b'{"custom_id": "r1", %b "response": {"body": {"choices": [{"message": {"content": "%b"}}]}}}'


@pytest.mark.parametrize(
    ("line", "content"),
    by_source(
        [
            (NOBODY, b"\xef\xbb\xbf" + LINE % (b"", b"4"), "4"),
            (NOBODY, LINE % (b'"score": NaN,', b"4"), "4"),
            (NOBODY, LINE % (b'"score": 1e999,', b"half \\ud83d"), "half \ufffd"),
            (NOBODY, LINE % (b"", b"half \\ud83d"), "half \ufffd"),
            (NOBODY, LINE % (b'"score": %b,' % (b"9" * 5000), b"half \\ud83d"), "half \ufffd"),
            (NOBODY, LINE % (b"", b"caf\xe9"), "caf\ufffd"),
        ]
    ),
)
def test_answers_in_invalid_json_are_not_lost(line: bytes, content: str) -> None:
    """The answer is billed."""
    row = parse(line)
    assert (row.custom_id, row.status, row.content) == ("r1", "succeeded", content)


EXPIRED = "This request could not be executed before the completion window expired."
STATUS_429 = "the request was answered with status 429"
STATUS_500 = "the request was answered with status 500"
NO_CHOICES = "the answer has no choices"

# The line, and the row's status and error.
FAILURES: list[tuple[str, dict[str, Any], str, str | None, str]] = [
    (
        LIVE,
        {"response": None, "error": {"code": "batch_expired", "message": EXPIRED}},
        "expired",
        "batch_expired",
        EXPIRED,
    ),
    (LIVE, {"error": {"message": "bad"}}, "failed", None, "bad"),
    (LIVE, {"error": {"code": None, "message": "bad"}}, "failed", None, "bad"),
    (LIVE, {"error": {"code": 20012, "message": "bad"}}, "failed", "20012", "bad"),
    (LIVE, {"response": {"body": {"code": 50505, "message": "busy"}}}, "failed", "50505", "busy"),
    (OPENAI, {"error": {"code": "batch_cancelled", "message": "c"}}, "cancelled", "batch_cancelled", "c"),
    (OPENAI, {"error": {"code": "invalid_request", "message": "bad"}}, "failed", "invalid_request", "bad"),
    (OPENAI, {"error": {"message": "bad"}, "response": {"body": BODY}}, "failed", None, "bad"),
    (OPENAI, {"response": {"status_code": 429, "body": BODY}}, "failed", "429", STATUS_429),
    (
        OPENAI,
        {"response": {"status_code": 400, "body": {"error": {"code": "x", "message": "bad"}}}},
        "failed",
        "x",
        "bad",
    ),
    (
        OPENAI,
        {"response": {"status_code": 400, "body": '{"error": {"code": "x", "message": "bad"}}'}},
        "failed",
        "x",
        "bad",
    ),
    (
        OPENAI,
        {"response": {"status_code": 400, "body": {"code": 20012, "message": "bad", "data": None}}},
        "failed",
        "20012",
        "bad",
    ),
    (OPENAI, {"response": {"status_code": 500, "body": None}}, "failed", "500", STATUS_500),
    (NOBODY, {"error": {"code": 20012}}, "failed", "20012", "20012"),
    (NOBODY, {"error": {"reason": "odd"}}, "failed", None, "no reason given"),
    (NOBODY, {"error": "bad"}, "failed", None, "bad"),
    (NOBODY, {"error": ["bad"]}, "failed", None, "['bad']"),
    (NOBODY, {"response": {"body": None}}, "failed", "no_choices", NO_CHOICES),
    (NOBODY, {"response": {"body": {}}}, "failed", "no_choices", NO_CHOICES),
    (NOBODY, {"response": {"body": BODY | {"choices": []}}}, "failed", "no_choices", NO_CHOICES),
    (NOBODY, {"response": {}}, "failed", "no_choices", NO_CHOICES),
    (NOBODY, {"response": None}, "failed", "no_choices", NO_CHOICES),
    (NOBODY, {}, "failed", "no_choices", NO_CHOICES),
]


@pytest.mark.parametrize(("line", "status", "code", "message"), by_source(FAILURES))
def test_a_failure_is_read_in_every_form(line: Any, status: str, code: str | None, message: str) -> None:
    row = parse({"id": "req_1", "custom_id": "r1", "unknown": [{}], **line})
    assert row.error is not None
    error = AnswerError(code, message, row.error.status)
    expected = ResultRow(custom_id="r1", status=status, error=error, batch_id="batch_1")
    billed = {name: getattr(row, name) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    assert row == msgspec.structs.replace(expected, **billed)


def test_a_failed_request_may_be_billed() -> None:
    body = {"error": {"code": "50000", "message": "failed"}, "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    row = parse({"custom_id": "r1", "response": {"body": body, "status_code": 500}})
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("failed", 7, 3)
