"""Fill the columns of a row into a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import first_names

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
encode = msgspec.json.Encoder(enc_hook=str).encode


class InvalidItemError(ValueError):
    """An item cannot become a request that the service accepts."""


class Prompt:
    """Replace `{column}` in a text. Other braces stay as they are.

    The first row decides which names are columns. Otherwise a prompt could be filled in some requests and keep its
    placeholder in others, and nobody would notice before the bill.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._names: list[str] = _PLACEHOLDER.findall(text)
        self._columns: frozenset[str] = frozenset()
        self._template = ""

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text for a row.

        :raises InvalidItemError: if the row lacks a column, or has one that the first row lacked
        """
        if not self._columns:
            self._set_columns(row)
        values = []
        for name in self._names:
            if name in self._columns:
                values.append(column_text(row, name))
            elif name in row:
                raise InvalidItemError(
                    f"column {name!r} of the prompt is not in the first row; give all rows the same columns"
                )
        return self._template % tuple(values)

    def _set_columns(self, row: Mapping[str, Any]) -> None:
        columns = frozenset(self._names) & frozenset(row)
        if not columns:
            shown = first_names(f"{{{name}}}" for name in self._names) or "none"
            has = first_names(map(repr, row)) or "nothing"
            raise InvalidItemError(f"the prompt names no column of the row: the prompt has {shown}, the row has {has}")
        self._columns = columns
        self._template = _PLACEHOLDER.sub(
            lambda found: "%s" if found[1] in columns else found[0], self._text.replace("%", "%%")
        )


def _is_missing(value: Any) -> bool:
    """Return True for NaN, NaT and pandas' NA. NaN and NaT differ from themselves; NA has no truth value."""
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def column_text(row: Mapping[str, Any], column: str) -> str:
    """Return a value of a row as text: dates as ISO 8601, lists and mappings as JSON.

    :raises InvalidItemError: if the value is missing
    """
    value = row.get(column)
    if type(value) is str:
        return value
    if value is None:
        has = "is null" if column in row else f"is missing; the row has {first_names(map(repr, row)) or 'nothing'}"
        raise InvalidItemError(f"column {column!r} {has}")
    if _is_missing(value):
        raise InvalidItemError(f"column {column!r} is {value}, a missing value; set a value, or leave the row out")
    plain = msgspec.to_builtins(value, enc_hook=str)
    return plain if isinstance(plain, str) else encode(plain).decode()
