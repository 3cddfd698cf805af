"""Answers of the emulated model. The same request always gets the same answer."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider.emulator.arithmetic import work_out

CHARACTERS_IN_TOKEN = 4
REASONING = "Arithmetic is worked out; anything else is repeated as it was said."


def chat_completion(body: dict[str, Any], model: str, completion_id: str, created: int) -> dict[str, Any]:
    """Return a chat completion for a valid request body."""
    content, finish_reason = _cut(_content(body), body.get("max_tokens"))
    message = {"role": "assistant", "content": content}
    completion_tokens = token_count(content)
    if _reasons(body, model):
        message["reasoning_content"] = REASONING
        completion_tokens += token_count(REASONING)
    number = body.get("n") or 1
    prompt_tokens = sum(token_count(_text(message.get("content"))) for message in body["messages"])
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": index, "message": message, "finish_reason": finish_reason} for index in range(number)],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": number * completion_tokens,
            "total_tokens": prompt_tokens + number * completion_tokens,
        },
    }


def token_count(text: str) -> int:
    """Return an estimate: one token per four characters, rounded up."""
    return -(-len(text) // CHARACTERS_IN_TOKEN)


def _content(body: dict[str, Any]) -> str:
    prompt = _text(body["messages"][-1].get("content"))
    answer = work_out(prompt) or prompt
    response_format = body.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_object":
        return msgspec.json.encode({"answer": answer}).decode()
    return answer


def _cut(content: str, max_tokens: int | None) -> tuple[str, str]:
    if max_tokens is None or token_count(content) <= max_tokens:
        return content, "stop"
    return content[: max_tokens * CHARACTERS_IN_TOKEN], "length"


def _text(content: object) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))


def _reasons(body: dict[str, Any], model: str) -> bool:
    return body.get("enable_thinking") is True or "DeepSeek-R1" in model or "QwQ" in model
