"""Read and check the lines of an input file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

ROLES = ("system", "user", "assistant")
THINKING_BUDGET = (128, 32_768)
MOST_CHOICES = 128  # not documented

decode = msgspec.json.Decoder().decode


def numbered_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the requests with their line numbers. Blank lines are skipped (not documented)."""
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            yield number, line


def request_fault(request: dict[str, Any], endpoint: str) -> str | None:
    """Return the reason why this request cannot be run, or None if it can."""
    if request.get("url", endpoint) != endpoint:
        return f"url: must be {endpoint}, the batch's endpoint"
    body = request.get("body")
    if not isinstance(body, dict):
        return "body: must be an object"
    return _messages_fault(body.get("messages")) or _parameters_fault(body)


def _messages_fault(messages: object) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages: must be a list of at least one message"
    for message in messages:
        if not isinstance(message, dict):
            return "messages: a message must be an object"
        if message.get("role") not in ROLES:
            return f"messages: role must be one of {', '.join(ROLES)}, not {message.get('role')!r}"
    if messages[-1]["role"] != "user":
        return "messages: the last message must be from user"
    if not isinstance(messages[-1].get("content"), (str, list)):
        return "messages: content must be a string or a list of parts"
    return None


def _parameters_fault(body: dict[str, Any]) -> str | None:
    low, high = THINKING_BUDGET
    return (
        _range_fault(body, "thinking_budget", low, high)
        or _range_fault(body, "max_tokens", 1, None)
        or _range_fault(body, "n", 1, MOST_CHOICES)
    )


def _range_fault(body: dict[str, Any], name: str, low: int, high: int | None) -> str | None:
    """Return the reason why an optional integer is invalid, or None. null counts as missing."""
    value = body.get(name)
    if value is None or (type(value) is int and value >= low and (high is None or value <= high)):
        return None
    return f"{name}: must be an integer of at least {low}" + (f" and at most {high}" if high else "")
