from __future__ import annotations

import json
from typing import Any

import pytest

from siliconflow_provider.pricing import Estimate, Estimator
from siliconflow_provider.pricing.requests import (
    MESSAGE_TOKENS,
    MOST_MESSAGE_TOKENS,
    MOST_REQUEST_TOKENS,
    MOST_THINKING,
    MOST_TOOLS_TOKENS,
    REQUEST_TOKENS,
    TOOLS_TOKENS,
)
from siliconflow_provider.pricing.tokens import token_hundredths

PLAIN = "deepseek-ai/DeepSeek-V3"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def line(content: Any = "What is this?", **body: Any) -> bytes:
    body = {"model": PLAIN, "messages": [{"role": "user", "content": content}], "max_tokens": 10, **body}
    return json.dumps({"custom_id": "a", "body": body}, separators=(",", ":")).encode() + b"\n"


def estimate_of(*lines: bytes, **options: Any) -> Estimate:
    estimator = Estimator(**options)
    for each in lines:
        estimator.add(each)
    return estimator.estimate()


def most_prompt(*lines: bytes) -> int:
    found = estimate_of(*lines).most_prompt_tokens
    assert found is not None
    return found


def test_a_prompt_has_its_text_and_its_template() -> None:
    found = estimate_of(line("What is this? 你好"))
    text = "What is this? 你好".encode()
    assert found.prompt_tokens == round(token_hundredths(text) / 100 + REQUEST_TOKENS + MESSAGE_TOKENS)
    assert found.most_prompt_tokens == len(text) + MOST_REQUEST_TOKENS + MOST_MESSAGE_TOKENS


def test_escaped_characters_count_as_themselves() -> None:
    raw = json.dumps({"body": {"messages": [{"role": "user", "content": "你好\n"}]}}, ensure_ascii=False).encode()
    escaped = json.dumps({"body": {"messages": [{"role": "user", "content": "你好\n"}]}}).encode()
    assert estimate_of(raw) == estimate_of(escaped)


def test_all_messages_and_their_fields_count() -> None:
    call = {"function": {"name": "weather"}}
    messages = [
        {"role": "system", "content": "s" * 10},
        {"role": "assistant", "content": None, "reasoning_content": "r" * 10, "tool_calls": [call]},
        {
            "role": "user",
            "name": "n" * 10,
            "content": [{"type": "text", "text": "t" * 10}, {"type": "text", "text": "u"}],
        },
    ]
    texts, calls = 41, len(json.dumps([call], separators=(",", ":")))
    template = MOST_REQUEST_TOKENS + 3 * MOST_MESSAGE_TOKENS
    assert most_prompt(line(messages=messages)) == texts + 2 * calls + template


@pytest.mark.parametrize("name", ["tools", "response_format", "a_field_of_tomorrow"])
def test_schemas_and_unknown_fields_count(name: str) -> None:
    added = estimate_of(line(**{name: TOOLS})).prompt_tokens - estimate_of(line()).prompt_tokens
    size = len(json.dumps(TOOLS, separators=(",", ":")))
    instructions = (TOOLS_TOKENS, MOST_TOOLS_TOKENS) if name == "tools" else (0, 0)
    assert size / 5 < added - instructions[0] < size
    assert most_prompt(line(**{name: TOOLS})) - most_prompt(line()) == 2 * size + instructions[1]


@pytest.mark.parametrize(
    "body", [{"temperature": 0.5}, {"stop": ["x" * 99]}, {"seed": 1}, {"top_p": 1, "logprobs": True}]
)
def test_sampling_parameters_do_not_count(body: dict[str, Any]) -> None:
    assert estimate_of(line(**body)) == estimate_of(line())


def test_a_tokenizer_replaces_the_rule_of_thumb() -> None:
    found = estimate_of(line("one two three", tools=TOOLS), counter=lambda texts: sum(len(t.split()) for t in texts))
    assert found.prompt_tokens == 3 + 1 + REQUEST_TOKENS + MESSAGE_TOKENS + TOOLS_TOKENS
    size = 2 * len(json.dumps(TOOLS, separators=(",", ":")))
    template = MOST_REQUEST_TOKENS + MOST_MESSAGE_TOKENS + MOST_TOOLS_TOKENS
    assert found.most_prompt_tokens == 3 + size + template


def test_images_leave_no_upper_bound() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    found = estimate_of(line([{"type": "text", "text": "What is this?"}, image]), line())
    assert found.most_prompt_tokens is None
    assert found.reasons["most_prompt_tokens"] == "1 request has images or other media, whose tokens are unknown"
    assert found.prompt_tokens == estimate_of(line(), line()).prompt_tokens


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, 10),
        ({"max_completion_tokens": 30}, 30),
        ({"max_tokens": None, "max_completion_tokens": 30}, 30),
        ({"n": 3}, 30),
        ({"n": 3, "thinking_budget": 128}, 3 * 138),
        ({"thinking_budget": 128, "enable_thinking": False}, 10),
        ({"enable_thinking": True}, 10 + MOST_THINKING),
        ({"reasoning_effort": "high"}, 10 + MOST_THINKING),
        ({"model": "a/model-of-tomorrow"}, 10 + MOST_THINKING),
        ({"model": "a/model-of-tomorrow", "enable_thinking": False}, 10),
        ({"model": "a/model-of-tomorrow", "thinking_budget": 4_096}, 10 + 4_096),
        ({"max_tokens": None}, None),
        ({"max_tokens": "10"}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 10**200}, None),
        ({"n": "2"}, None),
    ],
)
def test_completions_are_limited_by_the_body(body: dict[str, Any], most: int | None) -> None:
    assert estimate_of(line(**body)).most_completion_tokens == most


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": "https://h/a.png"}, "text": ""}],
        [{"text": "a part without a type"}],
        [{"type": "text", "text": None}],
        {"type": "image_url", "image_url": {"url": "https://h/a.png"}},
    ],
)
def test_only_parts_of_type_text_are_text(content: Any) -> None:
    assert estimate_of(line(content)).most_prompt_tokens is None
    assert estimate_of(line([{"type": "text", "text": "a"}, "b"])).most_prompt_tokens is not None


def test_unlimited_requests_are_counted() -> None:
    found = estimate_of(line(), line(max_tokens=None), line(max_tokens=None))
    assert found.reasons["most_completion_tokens"] == (
        "2 requests have no max_tokens: set it, such as in request_params"
    )


def test_assumed_thinking_is_noted() -> None:
    (note,) = estimate_of(line(), line(model=None), line(enable_thinking=True)).notes
    assert note == (
        "the upper bounds have 32,768 tokens of thinking for each answer of 2 requests without thinking_budget: "
        "set it, or set enable_thinking to false"
    )
    assert estimate_of(line()).notes == ()


def test_lines_come_in_blocks_of_any_size() -> None:
    lines = [line("x" * length) for length in range(5)]
    assert estimate_of(*lines) == estimate_of(b"\n".join(lines) + b"\n") == estimate_of(b"".join(lines))


@pytest.mark.parametrize("text", [b"{}", b'{"body": {}}', b'{"body": {"messages": ["x"]}}', b"nothing", b"[" * 9_999])
def test_other_lines_are_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not a request line: "):
        Estimator().add(text)
