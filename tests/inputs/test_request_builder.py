from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.values import InvalidItemError

USER = [{"role": "user", "content": "hi"}]
SYSTEM = {"role": "system", "content": "s"}
BY_ID = {"prompt": "{q}", "id_column": "id"}
LINE = {"custom_id": "a", "body": {"model": "m", "messages": USER}}


def built(item: Any, **builder: Any) -> dict[str, Any]:
    return json.loads(RequestBuilder(**{"model": "m", **builder}).build(item, 0).line)


class NAType:
    """A missing value like that of pandas: a comparison returns the value itself, which is neither true nor false."""

    def __ne__(self, other: object) -> NAType:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError

    def __repr__(self) -> str:
        return "<NA>"


@pytest.mark.parametrize(
    ("item", "builder", "line"),
    [
        ("hi", {}, {"custom_id": "request-000001", "body": {"model": "m", "messages": USER}}),
        (USER, {}, {"custom_id": "request-000001", "body": {"model": "m", "messages": USER}}),
        (LINE, {"model": "other", "request_params": {"n": 2}}, {**LINE, "body": {**LINE["body"], "n": 2}}),
        ({"body": {"messages": USER, "n": 1}}, {"request_params": {"n": 2}},
         {"custom_id": "request-000001", "body": {"model": "m", "messages": USER, "n": 1}}),
        ({"id": 7, "q": "hi"}, {"prompt": "{q}", "id_column": "id"},
         {"custom_id": "7", "body": {"model": "m", "messages": USER}}),
        ("hi", {"system_prompt": "s"},
         {"custom_id": "request-000001", "body": {"model": "m", "messages": [SYSTEM, *USER]}}),
    ],
)  # fmt: skip
def test_an_item_becomes_a_request_line(item: Any, builder: dict[str, Any], line: dict[str, Any]) -> None:
    assert built(item, **builder) == {"method": "POST", "url": "/v1/chat/completions", **line}
    if not isinstance(item, str):
        assert built(json.dumps(item).encode() + b"\r\n", **builder) == built(item, **builder)


def test_the_instruction_follows_an_own_system_message() -> None:
    messages = [{"role": "system", "content": "own"}, *USER]
    assert built(messages, system_prompt="s", instruction="i")["body"]["messages"][0]["content"] == "own\n\ni"
    assert built(USER, system_prompt="s", instruction="i")["body"]["messages"][0]["content"] == "s\n\ni"
    listed = [{"role": "system", "content": [{"type": "text", "text": "own"}]}, *USER]
    assert built(listed, instruction="i")["body"]["messages"][0]["content"][1] == {"type": "text", "text": "i"}


@pytest.mark.parametrize(
    ("item", "builder", "reason"),
    [
        ({"q": None}, {"prompt": "{q}"}, "column 'q' is null"),
        ({"q": float("nan")}, {"prompt": "{q}"}, "column 'q' is nan, a missing value; set a value, or leave"),
        ({"q": NAType()}, {"prompt": "{q}"}, "column 'q' is <NA>, a missing value"),
        ({"q": "x", "id": Decimal("NaN")}, BY_ID, "column 'id' is NaN, a missing value"),
        ({"q": "x"}, {"prompt": "{q}", "id_column": "id"}, "there is no column 'id'; the row has 'q'"),
        ({"r": "x"}, {"prompt": "{q}"}, "there is no column 'q'; the row has 'r'"),
        ({"r": "x"}, {"prompt": "Hello"}, "the prompt names no column, so all rows would ask the same"),
        ({"r": "x"}, {}, "not a request line (custom_id, body). To build requests from rows, give BatchInf"),
        ("x", {"prompt": "{q}"}, "prompt= needs rows, but this is a text or a list; give rows"),
        (b'[{"q": "x"}]\n', {"prompt": "{q}"}, "prompt= needs rows, but this is a text or a list; give"),
        (7, {}, "it is int; give a text, a list of messages, a row such as a dict, or a request line"),
        ([], {}, "body.messages is empty"),
        ([{"role": "tool", "content": ""}], {}, "body.messages has the role 'tool'"),
        ((1, "row of a cursor"), {}, "it is tuple; give a text, a list of messages, a row such as a dict, or a request "
         "line. For a row of a cursor, give dict(zip([column[0] for column in cursor.description], row)), or give all"),
        (b"{broken\n", {}, "not JSON in UTF-8: "),
        (b'"\xff"\n', {}, "not JSON in UTF-8: "),
        ({"custom_id": "", "body": {"messages": USER}}, {}, "custom_id is empty"),
        ({"custom_id": "a ", "body": {"messages": USER}}, {}, "custom_id 'a ' begins or ends with whitespace"),
        ({"id": "a" * 513, "q": "x"}, BY_ID, f"custom_id '{'a' * 36}... has 513 characters; use at most 512"),
        ({"id": "\ta", "q": "x"}, BY_ID, "custom_id '\\ta' begins or ends with whitespace; remove it"),
        ({"body": {"messages": USER, "thinking_budget": 1}}, {}, "body.thinking_budget is 1"),
    ],
)  # fmt: skip
def test_an_invalid_item_is_named_with_the_reason(item: Any, builder: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidItemError) as caught:
        built(item, **builder)
    assert str(caught.value).startswith(reason)
