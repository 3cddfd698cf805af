"""Answers of the emulated model. The same request always gets the same answer."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec

from siliconflow_provider.emulator.answer_rules import Answer
from siliconflow_provider.emulator.arithmetic import work_out
from siliconflow_provider.emulator.messages import text_of, user_texts
from siliconflow_provider.emulator.requested_schema import requested_schema, wants_json
from siliconflow_provider.emulator.schema_answers import SchemaAnswer

CHARACTERS_IN_TOKEN = 4
REASONING = "Arithmetic is worked out; anything else is repeated as it was said."


def chat_completion(
    body: dict[str, Any], model: str, completion_id: str, created: int, planned: Answer | None = None
) -> dict[str, Any]:
    """Return a chat completion for a valid request body, with what is planned for it."""
    planned = planned or Answer()
    content: str | None
    if planned.content is msgspec.UNSET:
        content, finish_reason = _cut(_content(body), body.get("max_tokens"))
    else:
        content, finish_reason = planned.text, "stop"
    message = {"role": "assistant", "content": content}
    completion_tokens = token_count(content or "")
    reasoning = planned.reasoning_content or (REASONING if _reasons(body, model) else None)
    if reasoning is not None:
        message["reasoning_content"] = reasoning
        completion_tokens += token_count(reasoning)
    number = body.get("n") or 1
    prompt_tokens = sum(token_count(text_of(message.get("content"))) for message in body["messages"])
    choice = {"message": message | planned.message, "finish_reason": planned.finish_reason or finish_reason}
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": index, **choice} for index in range(number)],
        "usage": planned.usage_of(prompt_tokens, number * completion_tokens),
    }


def token_count(text: str) -> int:
    """Return an estimate: one token per four characters, rounded up."""
    return -(-len(text) // CHARACTERS_IN_TOKEN)


def _content(body: dict[str, Any]) -> str:
    prompt = text_of(body["messages"][-1].get("content"))
    answer = work_out(prompt) or prompt
    schema = requested_schema(body)
    if schema is None:
        return _json({"answer": answer}) if wants_json(body) else answer
    # A user who asks for another form of the answer does not repeat the sum.
    value = next(filter(None, map(work_out, reversed(user_texts(body)))), None)
    seed = _json(body["messages"])
    try:
        return _json(SchemaAnswer(schema, seed, value or prompt, Fraction(value) if value else None).instance())
    except ValueError:  # no answer can match it
        return _json({"answer": answer})


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _cut(content: str, max_tokens: int | None) -> tuple[str, str]:
    if max_tokens is None or token_count(content) <= max_tokens:
        return content, "stop"
    return content[: max_tokens * CHARACTERS_IN_TOKEN], "length"


def _reasons(body: dict[str, Any], model: str) -> bool:
    return body.get("enable_thinking") is True or "DeepSeek-R1" in model or "QwQ" in model
