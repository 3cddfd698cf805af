"""Read the objects and lists that responses wrap, such as `{"code": 20000, "data": {...}}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def parsed(parse: Callable[[Mapping[str, Any]], T], data: Any) -> T | None:
    """Return the parsed object, or None if the data is not an object or has no id."""
    try:
        return parse(data) if isinstance(data, dict) else None
    except KeyError:
        return None


def unwrapped(answer: Any) -> Any:
    """Return what `data` wraps, at any depth."""
    while isinstance(answer, dict) and "data" in answer:
        answer = answer["data"]
    return answer


def has_more(answer: Any) -> bool | None:
    """Return True if the service says that a list goes on, and None if it does not say."""
    while isinstance(answer, dict):
        if answer.get("has_more") is not None:
            return bool(answer["has_more"])
        answer = answer.get("data")
    return None
