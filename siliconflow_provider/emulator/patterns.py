"""Write a text that matches a regular expression."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

ATTEMPTS = 30
CHARACTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits + " _-.,:;/@#!?()"
MORE_REPEATS = 3
CATEGORIES: dict[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": str.isdigit,
    "CATEGORY_NOT_DIGIT": lambda character: not character.isdigit(),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda character: not character.isspace(),
    "CATEGORY_WORD": lambda character: character.isalnum() or character == "_",
    "CATEGORY_NOT_WORD": lambda character: not (character.isalnum() or character == "_"),
}

Choose = Callable[[int], int]


def matching_text(pattern: str, choose: Choose, fits: Callable[[str], bool]) -> str | None:
    """Return a text that matches and fits, or None if none is found: look-arounds are tried, not understood.

    :param choose: called with a number n, returns one from 0 to n - 1
    """
    try:
        compiled, parsed = _parsed(pattern)
    except (re.error, OverflowError, RecursionError):
        return None
    for attempt in range(ATTEMPTS):
        text = "".join(_text_of(parsed, choose, attempt))
        if compiled.search(text) and fits(text):
            return text
    return None


@lru_cache
def _parsed(pattern: str) -> tuple[re.Pattern[str], Any]:
    """Return a compiled pattern, and what the parser of `re` itself finds in it: that has no other name."""
    return re.compile(pattern), import_module("re._parser").parse(pattern)


def _text_of(parsed: Any, choose: Choose, longer: int) -> Iterator[str]:
    for operation, argument in parsed:
        match str(operation):
            case "LITERAL":
                yield chr(argument)
            case "ANY" | "NOT_LITERAL" | "IN":
                allowed = _allowed(str(operation), argument)
                yield allowed[choose(len(allowed))] if allowed else ""
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = argument
                for _ in range(least + choose(min(int(most) - least, MORE_REPEATS + longer) + 1)):
                    yield from _text_of(inner, choose, longer)
            case "SUBPATTERN":
                yield from _text_of(argument[-1], choose, longer)
            case "ATOMIC_GROUP":
                yield from _text_of(argument, choose, longer)
            case "BRANCH":
                branches = argument[1]
                yield from _text_of(branches[choose(len(branches))], choose, longer)


def _allowed(operation: str, argument: Any) -> str:
    """Return the characters that a set of characters has, of the usual ones and of its own."""
    if operation == "ANY":
        return CHARACTERS
    items = [("LITERAL", argument)] if operation == "NOT_LITERAL" else [(str(kind), value) for kind, value in argument]
    negated = operation == "NOT_LITERAL" or items[0][0] == "NEGATE"
    own = "".join(
        chr(value if kind == "LITERAL" else value[0]) for kind, value in items if kind in ("LITERAL", "RANGE")
    )

    def is_in(character: str) -> bool:
        return any(_matches(kind, value, character) for kind, value in items)

    return "".join(each for each in dict.fromkeys(CHARACTERS + own) if is_in(each) != negated)


def _matches(kind: str, value: Any, character: str) -> bool:
    if kind == "LITERAL":
        return bool(ord(character) == value)
    if kind == "RANGE":
        return bool(value[0] <= ord(character) <= value[1])
    return kind == "CATEGORY" and CATEGORIES.get(str(value), lambda _: False)(character)
