"""What the emulated model says: the same answer to the same request, always."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider.emulator.arithmetic import work_out

CHARACTERS_IN_TOKEN = 4
REASONING = "Arithmetic is worked out; anything else is repeated as it was said."


def chat_completion(body: dict[str, Any], model: str, completion_id: str, created: int) -> dict[str, Any]:
    """A chat completion for a request body without fault."""
    content, finish_reason = _cut(_content(body), body.get("max_tokens"))
    message = {"role": "assistant", "content": content}
    spoken = token_count(content)
    if _reasons(body, model):
        message["reasoning_content"] = REASONING
        spoken += token_count(REASONING)
    number = body.get("n") or 1
    asked = sum(token_count(_text(message.get("content"))) for message in body["messages"])
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": index, "message": message, "finish_reason": finish_reason} for index in range(number)],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": number * spoken,
            "total_tokens": asked + number * spoken,
        },
    }


def token_count(text: str) -> int:
    """An estimate: four characters to a token, begun ones counted."""
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
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))


def _reasons(body: dict[str, Any], model: str) -> bool:
    return body.get("enable_thinking") is True or "DeepSeek-R1" in model or "QwQ" in model
