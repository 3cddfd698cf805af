"""Fill the columns of a row into a prompt: a text, or the content parts of a message."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.inputs.messages import check_parts
from siliconflow_provider.inputs.values import InvalidItemError, is_missing, plain_value

# `{{` does not occur in JSON, so JSON in a prompt stays as it is; `}}` does.
_BRACES = re.compile(r"\{\{|\{([^{}\n]+)\}|[{}]")
_WORD = re.compile(r"\w+")
encode = msgspec.json.encode


class Prompt:
    """Replace `{column}` in a text. `{{` and its `}}` stand for braces; other braces stay as they are.

    A name of letters, digits and underscores has to be a column. Any other text in braces is one if the first row has
    a column of that name.

    :param is_jinja: True if the text was rendered by Jinja before, for advice about braces
    """

    def __init__(self, text: str, *, is_jinja: bool = True) -> None:
        self._text = text
        self._is_jinja = is_jinja
        self._template = ""
        self._is_settled = False
        self._names: list[str] = []
        self._literals: list[str] = []

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text for a row.

        :raises InvalidItemError: if the row lacks a column of the prompt, or its value is missing
        """
        if not self.names_columns(row):
            raise _no_names(row)
        text = self.replace(row)
        self.settle()
        return text

    def names_columns(self, row: Mapping[str, Any]) -> bool:
        """Return True if the text has columns to replace.

        :param row: decides which texts in braces are columns, until `settle` is called
        """
        if not self._is_settled:
            self._template = self._parse(row)
        return bool(self._names)

    def settle(self) -> None:
        """Keep the columns of the last row. A row that cannot be filled does not decide about them."""
        self._is_settled = True

    def replace(self, row: Mapping[str, Any]) -> str:
        """Return the text for a row, for which `names_columns` was called; it may have no columns.

        :raises InvalidItemError: if the row lacks a column of the prompt, or its value is missing
        """
        for name in self._literals:
            if name in row:
                raise InvalidItemError(
                    f"column {name!r} is not in the first row; give all rows the same columns", concerns_source=True
                )
        return self._template % tuple([self._value(row, name) for name in self._names])

    def _value(self, row: Mapping[str, Any], name: str) -> str:
        if name not in row:
            text = _no_column(name, row)
            if _nearest(name, row) is None:
                braces = f"{{{{{name}}}}}"
                kept = f"{{% raw %}}{braces}{{% endraw %}}" if self._is_jinja else braces
                text += f". For braces that stay in a prompt, write {kept}"
            raise InvalidItemError(text, missing_column=name)
        return column_text(row, name)

    def _parse(self, row: Mapping[str, Any]) -> str:
        """Return the prompt as a `%` template; note the names of its columns."""
        self._names, self._literals = [], []
        pieces: list[str] = []
        opened: list[str] = []
        position = 0
        while (found := _BRACES.search(self._text, position)) is not None:
            pieces.append(self._text[position : found.start()].replace("%", "%%"))
            brace, position = found[0], found.end()
            if found[1] is not None:
                brace = self._placeholder(found[1], row)
            elif brace in ("{", "{{"):
                opened.append(brace)
                brace = "{"
            else:
                is_escaped = bool(opened) and opened.pop() == "{{"
                position += is_escaped and self._text.startswith("}", position)
            pieces.append(brace)
        return "".join([*pieces, self._text[position:].replace("%", "%%")])

    def _placeholder(self, name: str, row: Mapping[str, Any]) -> str:
        if name in row or _WORD.fullmatch(name):
            self._names.append(name)
            return "%s"
        meant = re.split(r"[:!.\[]", name)[0].strip()
        if meant in row:
            raise InvalidItemError(
                f"the prompt has {{{name}}}; write {{{meant}}} for the column {meant!r}", concerns_source=True
            )
        self._literals.append(name)
        return f"{{{name}}}".replace("%", "%%")


class PartsPrompt:
    """Replace `{column}` in all texts of content parts, by the rules of `Prompt`."""

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self._texts: list[Prompt] = []
        self._parts = self._compiled(plain_value(parts))

    def fill(self, row: Mapping[str, Any]) -> list[Any]:
        """Return the parts for a row.

        :raises InvalidItemError: if the row lacks a column of the prompt, or its value is missing or makes an invalid
            part
        """
        # Each text reads its columns from the first row.
        name_columns = [text.names_columns(row) for text in self._texts]
        if not any(name_columns):
            raise _no_names(row)
        parts: list[Any] = _filled(self._parts, row)
        try:
            check_parts(parts)
        except InvalidItemError as error:
            raise InvalidItemError(f"the prompt has {error}") from None
        for text in self._texts:
            text.settle()
        return parts

    def _compiled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._compiled(field) for name, field in value.items()}
        if isinstance(value, list):
            return [self._compiled(element) for element in value]
        if isinstance(value, str) and _BRACES.search(value):
            self._texts.append(Prompt(value))
            return self._texts[-1]
        return value


def _filled(value: Any, row: Mapping[str, Any]) -> Any:
    if isinstance(value, Prompt):
        return value.replace(row)
    if isinstance(value, dict):
        return {name: _filled(field, row) for name, field in value.items()}
    return [_filled(element, row) for element in value] if isinstance(value, list) else value


def column_value(row: Mapping[str, Any], column: str) -> Any:
    """Return a value of a row.

    :raises InvalidItemError: if there is no such column, or its value is missing
    """
    value = row.get(column)
    if type(value) is str:
        return value
    if column not in row:
        raise InvalidItemError(_no_column(column, row), missing_column=column)
    if is_missing(value):
        shown = "null" if value is None else f"{value}, a missing value"
        raise InvalidItemError(f"column {column!r} is {shown}; set a value, or leave the row out")
    return value


def column_text(row: Mapping[str, Any], column: str) -> str:
    """Return a value of a row as text: dates as ISO 8601, lists and mappings as JSON.

    :raises InvalidItemError: if there is no such column, or its value is missing or cannot be written
    """
    value = column_value(row, column)
    if type(value) is str:
        return value
    try:
        plain = plain_value(value)
    except InvalidItemError as error:
        raise InvalidItemError(f"column {column!r} has {error}") from None
    return plain if isinstance(plain, str) else encode(plain).decode()


def _no_names(row: Mapping[str, Any]) -> InvalidItemError:
    return InvalidItemError(
        f"the prompt names no column, so all rows would ask the same; the row has {_columns_of(row)}",
        concerns_source=True,
    )


def _nearest(column: str, row: Mapping[str, Any]) -> str | None:
    matches = get_close_matches(column.lower(), [str(name).lower() for name in row], n=1)
    return next((name for name in row if matches and str(name).lower() == matches[0]), None)


def _no_column(column: str, row: Mapping[str, Any]) -> str:
    nearest = _nearest(column, row)
    hint = "" if nearest is None else f" (did you mean {nearest!r}?)"
    return f"there is no column {column!r}{hint}; the row has {_columns_of(row)}"


def _columns_of(row: Mapping[str, Any]) -> str:
    return first_names(map(repr, row)) or "none"
