"""Read the messages of a request."""

from __future__ import annotations

from typing import Any


def text_of(content: object) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))


def user_texts(body: Any) -> list[str]:
    """Return the texts of a request's user messages; none for an invalid body."""
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list):
        return []
    found = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
    return [text_of(message.get("content")) for message in found]
