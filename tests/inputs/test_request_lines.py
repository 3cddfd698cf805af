"""Request lines are valid or invalid by the rules of the service, in a file as it would be uploaded."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.purpose import UPLOAD
from siliconflow_provider.inputs.request_builder import RequestBuilder

USER = [{"role": "user", "content": "hi"}]
FIRST = b'{"custom_id": "first", "body": {"messages": [{"role": "user", "content": "hi"}]}}\n'


def uploaded(content: bytes) -> bytes:
    """Return the bytes that would be uploaded for a file."""
    requests = io.BytesIO()
    prepare([content], RequestBuilder(), requests, io.BytesIO(), name="a.jsonl", purpose=UPLOAD)
    return requests.getvalue()


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
def test_a_valid_line_is_kept_with_any_end(request_line: Any, end: bytes) -> None:
    for ascii_only in (True, False):
        line = json.dumps(request_line, ensure_ascii=ascii_only).encode() + end
        assert uploaded(line) == line


BAD: list[tuple[Any, str]] = [
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
        "custom_id ' a' begins or ends with whitespace; remove it",
    ),
    (json.dumps({"custom_id": "a\n", "body": {"messages": USER}}), r"custom_id 'a\n' begins or ends with whitespace"),
    (
        json.dumps({"custom_id": "a" * 513, "body": {"messages": USER}}),
        f"custom_id '{'a' * 36}... has 513 characters; use at most 512, such as a hash of it",
    ),
    (with_body(messages=[]), "body.messages is empty"),
    (with_body(messages="hi"), "Expected `array`, got `str` - at `$.body.messages`"),
    (with_body(messages=["hi"]), "Expected `object`, got `str` - at `$.body.messages["),
    (with_body(messages=[{"content": "hi"}]), "Object missing required field `role` - at `$.body.messages["),
    (
        with_body(messages=[{"role": "tool", "content": ""}, *USER]),
        "body.messages has the role 'tool'; use system, user, assistant",
    ),
    (
        with_body(messages=[*USER, {"role": "assistant", "content": "hi"}]),
        "the last message has the role 'assistant', but must have 'user'",
    ),
    (with_body(model=7), "Expected `str | null`, got `int` - at `$.body.model`"),
    (with_body(messages=[{"role": "user"}]), "the content of the last message is neither a text nor a list"),
    (with_body(messages=[{"role": "user", "content": {}}]), "the content of the last message is neither"),
    (with_body(x=0).replace("0", "1e999"), "Number out of range"),
    (with_body(x=0).replace("0", "9" * 5000), "Integer value out of range"),
    (with_body(x=0).replace("0", "[" * 100_000 + "]" * 100_000), "it is nested too deeply to read"),
    (with_body(messages=[{"role": "x" * 10_000, "content": ""}]), f"body.messages has the role '{'x' * 36}...; use"),
    (with_body(thinking_budget=127), "body.thinking_budget is 127, but must be 128 to 32,768"),
    (with_body(thinking_budget=32769), "body.thinking_budget is 32,769, but must be 128 to 32,768"),
    (with_body(thinking_budget="many"), "Expected `int | null`, got `str` - at `$.body.thinking_budget`"),
    (
        json.dumps({"custom_id": "a", "method": "GET", "body": {"messages": USER}}),
        "method is 'GET', but must be 'POST'",
    ),
    (
        json.dumps({"custom_id": "a", "url": "/v1/embeddings", "body": {"messages": USER}}),
        "url is '/v1/embeddings', but must be '/v1/chat/completions'",
    ),
    (json.dumps(GOOD[0]).encode("utf-16"), "not JSON in UTF-8: "),
    (b'{"custom_id": "\xff"}', "not JSON in UTF-8: 'utf-8' codec can't decode byte 0xff"),
    (
        json.dumps(GOOD[0]).encode().replace(b"hi", b"caf\xe9"),
        "not JSON in UTF-8: 'utf-8' codec can't decode byte 0xe9",
    ),
    (json.dumps(GOOD[0]).encode().replace(b"hi", b"a\x00b"), "not JSON in UTF-8: JSON is malformed"),
    (b"\xef\xbb\xbf" + json.dumps(GOOD[0]).encode(), "it begins with a byte order mark; save the file as UTF-8"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_an_invalid_line_is_named_with_its_reason(line: Any, reason: str) -> None:
    with pytest.raises(InvalidRequestFileError) as caught:
        uploaded(FIRST + (line if isinstance(line, bytes) else line.encode()))
    first_line, problem, *others = str(caught.value).split("\n")
    assert first_line == "a.jsonl was not uploaded: 1 of 2 lines is invalid; fix it and rerun the task:"
    assert problem.startswith("  line 2")
    assert problem.partition(": ")[2].startswith(reason)
    assert others == []
