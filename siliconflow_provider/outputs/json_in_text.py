"""JSON values in the text of an answer: behind reasoning, in code fences, and among prose. Nothing is repaired."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

START_OF_THINKING, END_OF_THINKING = "<think>", "</think>"
# A text of many opening braces would take its length squared to search.
MOST_ATTEMPTS = 1_000
_BRACKET = re.compile(r"[{}\[]")


@dataclass(frozen=True)
class FoundJson:
    """A JSON value as it stands in a text.

    :param text: exactly as the model wrote it, so that numbers keep their digits
    """

    text: str
    value: Any


def find_json(text: str) -> list[FoundJson]:
    """Return the JSON values in a text: the text itself if it is one, else the objects and arrays in it.

    Values inside of other values, and of text that only resembles JSON, do not count. Text up to a closing `</think>`
    does not count either, unless nothing follows it.
    """
    whole = text.strip()
    found = _read(whole)
    if found is not None:
        return [found]
    answer = without_thinking(whole)
    found = _read(answer)
    return [found] if found is not None else _values_in(answer)


def without_thinking(text: str) -> str:
    """Return the text after a closing `</think>`; the whole text if there is none, or if it is part of a value."""
    whole = text.strip()
    is_thinking = whole.startswith(START_OF_THINKING)
    if END_OF_THINKING not in whole:
        # Without its end, the answer was cut before it began.
        return "" if is_thinking else whole
    if not is_thinking and any(END_OF_THINKING in value.text for value in _values_in(whole)):
        return whole
    return whole.rpartition(END_OF_THINKING)[2].strip()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)


def _read(text: str) -> FoundJson | None:
    try:
        return FoundJson(text, _decoder.decode(text))
    except (ValueError, RecursionError):
        return None


def _values_in(text: str) -> list[FoundJson]:
    values: list[FoundJson] = []
    position, depth, attempts = 0, 0, 0
    while (found := _BRACKET.search(text, position)) is not None and attempts < MOST_ATTEMPTS:
        position = found.end()
        if found[0] == "}":
            depth = max(depth - 1, 0)
            continue
        attempts += 1
        try:
            value, end = _decoder.raw_decode(text, found.start())
        except json.JSONDecodeError as error:
            if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
                # The answer was cut within this value, and values before it were not the last word.
                return []
            # Brackets in prose, such as an interval, need not be closed.
            depth += found[0] == "{"
        except (ValueError, RecursionError):
            return []
        else:
            if depth == 0:
                values.append(FoundJson(text[found.start() : end], value))
            position = end
    return values
