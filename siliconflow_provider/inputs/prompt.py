"""Fill the columns of a row into a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.inputs.values import InvalidItemError, is_missing, plain_value

# `{{` does not occur in JSON, so JSON in a prompt stays as it is; `}}` does.
_BRACES = re.compile(r"\{\{|\{(\w+)\}|[{}]")
encode = msgspec.json.encode


class Prompt:
    """Replace `{column}` in a text. `{{` and its `}}` stand for braces; other braces stay as they are."""

    def __init__(self, text: str) -> None:
        self._template, self._names = _parse(text)

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text for a row.

        :raises InvalidItemError: if the row lacks a column of the prompt, or its value is missing
        """
        if not self._names:
            raise InvalidItemError(
                f"the prompt names no column, so all rows would ask the same; the row has {_columns_of(row)}"
            )
        return self._template % tuple([column_text(row, name) for name in self._names])


def _parse(text: str) -> tuple[str, list[str]]:
    """Return the prompt as a `%` template, and the names of its columns."""
    pieces: list[str] = []
    names: list[str] = []
    opened: list[str] = []
    position = 0
    while (found := _BRACES.search(text, position)) is not None:
        pieces.append(text[position : found.start()].replace("%", "%%"))
        brace, position = found[0], found.end()
        if found[1] is not None:
            names.append(found[1])
            brace = "%s"
        elif brace in ("{", "{{"):
            opened.append(brace)
            brace = "{"
        else:
            is_escaped = bool(opened) and opened.pop() == "{{"
            position += is_escaped and text.startswith("}", position)
        pieces.append(brace)
    return "".join([*pieces, text[position:].replace("%", "%%")]), names


def column_text(row: Mapping[str, Any], column: str) -> str:
    """Return a value of a row as text: dates as ISO 8601, lists and mappings as JSON.

    :raises InvalidItemError: if there is no such column, or its value is missing or cannot be written
    """
    value = row.get(column)
    if type(value) is str:
        return value
    if column not in row:
        stays = f"{{% raw %}}{{{{{column}}}}}{{% endraw %}}"
        raise InvalidItemError(
            f"there is no column {column!r}{_nearest(column, row)}; the row has {_columns_of(row)}. "
            f"For braces that stay in a prompt, write {stays}"
        )
    if is_missing(value):
        shown = "null" if value is None else f"{value}, a missing value"
        raise InvalidItemError(f"column {column!r} is {shown}; set a value, or leave the row out")
    try:
        plain = plain_value(value)
    except InvalidItemError as error:
        raise InvalidItemError(f"column {column!r} has {error}") from None
    return plain if isinstance(plain, str) else encode(plain).decode()


def _nearest(column: str, row: Mapping[str, Any]) -> str:
    matches = get_close_matches(column, map(str, row), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _columns_of(row: Mapping[str, Any]) -> str:
    return first_names(map(repr, row)) or "none"
