from __future__ import annotations

import json
from typing import Any

import pytest

from siliconflow_provider.emulator.answers import chat_completion, token_count

V3 = "deepseek-ai/DeepSeek-V3"


def complete(prompt: Any, *, model: str = V3, **body: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": prompt}]
    return chat_completion({"messages": messages} | body, model, "chatcmpl-1", 1_800_000_000)


def test_completion_has_the_services_form() -> None:
    assert complete("What is 12 + 30?") == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": V3,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
    }


@pytest.mark.parametrize(
    ("prompt", "content"),
    [
        ("Tell me a joke", "Tell me a joke"),
        ("1/0", "1/0"),
        ([{"type": "text", "text": "What is "}, {"type": "text", "text": "3*4?"}], "12"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "What is this?"}],
         "What is this?"),
        ([], ""),
    ],
)  # fmt: skip
def test_arithmetic_is_computed_other_text_is_repeated(prompt: Any, content: str) -> None:
    assert complete(prompt)["choices"][0]["message"]["content"] == content


def test_json_mode_returns_an_object() -> None:
    choice = complete("2+2", response_format={"type": "json_object"})["choices"][0]
    assert json.loads(choice["message"]["content"]) == {"answer": "4"}


@pytest.mark.parametrize("schema", [{"properties": {"answer": {"type": "integer"}}}, {"type": "object"}])
def test_schema_is_answered_with_an_instance(schema: dict[str, Any]) -> None:
    given = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    completions = [complete("2+2", response_format=given) for _ in range(2)]
    assert completions[0] == completions[1]
    assert int(json.loads(completions[0]["choices"][0]["message"]["content"])["answer"]) == 4


def test_sum_may_be_in_an_earlier_message() -> None:
    given = {"type": "json_schema", "json_schema": {"schema": {"properties": {"answer": {"type": "integer"}}}}}
    turns = [("user", "2+2"), ("assistant", "four"), ("user", "Answer in JSON.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    choice = complete("", messages=messages, response_format=given)["choices"][0]
    assert json.loads(choice["message"]["content"]) == {"answer": 4}


def test_schema_without_instances_is_ignored() -> None:
    given = {"type": "json_schema", "json_schema": {"schema": {"enum": []}}}
    choice = complete("2+2", response_format=given)["choices"][0]
    assert json.loads(choice["message"]["content"]) == {"answer": "4"}


def test_n_choices_are_returned_and_counted() -> None:
    completion = complete("2+2", n=3)
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2]
    assert completion["usage"]["completion_tokens"] == 3


def test_answer_is_cut_at_max_tokens() -> None:
    choice = complete("abcdefghij", max_tokens=2)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("abcdefgh", "length")
    assert complete("abcdefgh", max_tokens=2)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("model", "body", "reasons"),
    [
        (V3, {}, False),
        (V3, {"enable_thinking": False}, False),
        (V3, {"enable_thinking": True}, True),
        ("deepseek-ai/DeepSeek-R1", {}, True),
        ("Qwen/QwQ-32B", {}, True),
    ],
)
def test_reasoning_models_return_reasoning_content(model: str, body: dict[str, Any], reasons: bool) -> None:
    completion = complete("2+2", model=model, **body)
    reasoning = completion["choices"][0]["message"].get("reasoning_content")
    assert (reasoning is not None) == reasons
    assert completion["usage"]["completion_tokens"] == 1 + token_count(reasoning or "")
