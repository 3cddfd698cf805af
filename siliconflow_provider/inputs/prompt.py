"""The prompt of a job, and the texts that rows make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import first_names

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
encode = msgspec.json.Encoder(enc_hook=str).encode


class UnfitItemError(ValueError):
    """An item that cannot become a request."""


class Prompt:
    """A text in which `{column}` is replaced; every other brace stands.

    The first row's columns are the job's: a placeholder that stands in some requests and is replaced in others would
    be bought unseen.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._names: list[str] = _PLACEHOLDER.findall(text)
        self._columns: frozenset[str] = frozenset()
        self._template = ""

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text for a row.

        :raises UnfitItemError: when it lacks a column, or has one that the first row did not have
        """
        if not self._columns:
            self._begin(row)
        values = []
        for name in self._names:
            if name in self._columns:
                values.append(text_of(row, name))
            elif name in row:
                raise UnfitItemError(
                    f"column {name!r}, which prompt names, is not in the first row: give all rows the same"
                )
        return self._template % tuple(values)

    def _begin(self, row: Mapping[str, Any]) -> None:
        columns = frozenset(self._names) & frozenset(row)
        if not columns:
            shown = first_names(f"{{{each}}}" for each in self._names) or "none"
            has = first_names(map(repr, row)) or "nothing"
            raise UnfitItemError(f"prompt names no column of the row: it has {shown}, the row has {has}")
        self._columns = columns
        self._template = _PLACEHOLDER.sub(
            lambda each: "%s" if each[1] in columns else each[0], self._text.replace("%", "%%")
        )


def _is_missing(value: Any) -> bool:
    """Whether a value stands for none: NaN and NaT equal nothing, and pandas' NA does not even say so."""
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def text_of(row: Mapping[str, Any], column: str) -> str:
    """Return a row's value as people write it.

    :raises UnfitItemError: when there is none
    """
    value = row.get(column)
    if type(value) is str:
        return value
    if value is None:
        has = "is null" if column in row else f"is missing, the row has {first_names(map(repr, row)) or 'nothing'}"
        raise UnfitItemError(f"column {column!r} {has}")
    if _is_missing(value):
        raise UnfitItemError(f"column {column!r} is {value}, a missing value: fill it, or leave the row out")
    plain = msgspec.to_builtins(value, enc_hook=str)
    return plain if isinstance(plain, str) else encode(plain).decode()
