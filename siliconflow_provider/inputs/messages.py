"""Read messages and content parts from a column of a row, and check them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from siliconflow_provider.api.limits import shortened
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.inputs.request_lines import ROLES
from siliconflow_provider.inputs.values import InvalidItemError, plain_value

# Parts whose value is an object with a `url`.
_MEDIA = ("image_url", "video_url", "audio_url")
# The service fetches no other URLs, such as those of object storage or of a local disk.
_URL = re.compile(r"https?://|data:", re.IGNORECASE)


def messages_in(value: Any) -> list[dict[str, Any]]:
    """Return the messages of a row's value, which is a list of messages or of content parts, or such a list as JSON.

    Content parts become one user message. Fields that are null are left out: in Arrow, each struct of a column has the
    fields of all.

    :raises InvalidItemError: if the value is no such list; the text continues the name of its column
    """
    listed = _without_nulls(plain_value(_decoded(value)))
    if not isinstance(listed, list):
        raise InvalidItemError(f"a value of type {type(value).__name__}; give a list of messages, such as {_EXAMPLE}")
    if not listed:
        raise InvalidItemError("an empty list; give at least one message, or leave the row out")
    for number, element in enumerate(listed, start=1):
        if not isinstance(element, Mapping):
            raise InvalidItemError(f"{_kind_of(element)} as message {number}; give messages such as {_EXAMPLE[1:-1]}")
    if not any("role" in element for element in listed) and any("type" in element for element in listed):
        check_parts(listed)
        return [{"role": "user", "content": listed}]
    for number, message in enumerate(listed, start=1):
        problem = _message_problem(message)
        if problem is not None:
            raise InvalidItemError(f"message {number} {problem}")
    if listed[-1]["role"] != "user":
        raise InvalidItemError(f"a last message with the role {listed[-1]['role']!r}; the last one must have 'user'")
    return listed


_EXAMPLE = '[{"role": "user", "content": "..."}]'


def check_parts(parts: list[Any]) -> None:
    """Raise InvalidItemError if the service cannot take one of the content parts of a message."""
    for number, part in enumerate(parts, start=1):
        problem = _part_problem(part)
        if problem is not None:
            raise InvalidItemError(f"content part {number} {problem}")


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidItemError(
            f"a text that is not JSON ({error}); give a list of messages, or for a text prompt='{{column}}'"
        ) from None


def _without_nulls(value: Any) -> Any:
    """Return a plain value without the fields that are null, at any depth."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(field) for name, field in value.items() if field is not None}
    if isinstance(value, list):
        return [_without_nulls(element) for element in value]
    return value


def _message_problem(message: Mapping[str, Any]) -> str | None:
    role, content = message.get("role"), message.get("content")
    if role is None:
        return "without a role; use " + ", ".join(ROLES)
    if role not in ROLES:
        return f"with the role {shortened(repr(role))}; use {', '.join(ROLES)}"
    if content is None or content == []:
        return None if message.get("tool_calls") else "without content; set a text, or a list of parts"
    if not isinstance(content, (str, list)):
        return f"with {_kind_of(content)} as content; give a text, or a list of parts"
    if isinstance(content, list):
        check_parts(content)
    return None


def _part_problem(part: Any) -> str | None:
    if not isinstance(part, Mapping):
        return f'that is {_kind_of(part)}; give a part such as {{"type": "text", "text": "..."}}'
    kind = part.get("type")
    if not isinstance(kind, str):
        return "without a type, such as 'text' or 'image_url'"
    if kind == "text":
        return None if isinstance(part.get("text"), str) else "of type 'text' without a text"
    if kind not in _MEDIA:
        # The service may learn others.
        return None
    media = part.get(kind)
    url = media.get("url") if isinstance(media, Mapping) else None
    if not isinstance(url, str):
        return f'of type {kind!r} without a URL; write {{"type": "{kind}", "{kind}": {{"url": "..."}}}}'
    if not _URL.match(url):
        return (
            f"of type {kind!r} with {shortened(repr(without_queries(url)))}; give a URL that begins with https://, or "
            "data:image/png;base64,..."
        )
    return None


def _kind_of(value: Any) -> str:
    return "null" if value is None else f"a value of type {type(value).__name__}"
