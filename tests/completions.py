"""A chat completion, as the service answers a request with it."""

from __future__ import annotations

from typing import Any

MESSAGE = {"role": "assistant", "content": "4"}
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1741686000,
    "model": "deepseek-ai/DeepSeek-V3",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 120, "total_tokens": 140},
}
