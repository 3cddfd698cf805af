"""Collect the items of a source that cannot be sent, so that each gets a result row of its own."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any

import msgspec

from siliconflow_provider.api.service_texts import cut, printable
from siliconflow_provider.inputs.prompt import column_text
from siliconflow_provider.inputs.request_builder import RequestBuilder, generated_id
from siliconflow_provider.inputs.request_lines import MAXIMUM_CUSTOM_ID
from siliconflow_provider.inputs.values import InvalidItemError, plain_item

LONGEST_REASON = 1_000
_NO_ROW = b"null"


class RejectedItem(msgspec.Struct, frozen=True):
    """An item that cannot be sent.

    :param index: its position in the source, from 0
    :param custom_id: its own if it has a readable one, else a generated one
    """

    index: int
    custom_id: str
    reason: str


class Rejections:
    """Write the rejected items of a source to a file, and count them.

    :param file: receives a line for each item
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._missing_columns: Counter[str] = Counter()
        self._rows = 0
        self.positions = array("q")

    def add(self, index: int, custom_id: str | None, reason: str) -> None:
        """Add an item; see `RejectedItem`.

        :param custom_id: None if it has no readable one
        """
        rejected = RejectedItem(index, custom_id or generated_id(index), cut(printable(reason), LONGEST_REASON))
        self._file.write(msgspec.json.encode(rejected) + b"\n")
        self.positions.append(index)

    def add_item(self, index: int, item: Any, error: InvalidItemError, builder: RequestBuilder) -> bytes:
        """Add an item; return its row as JSON, or null if it is no row that can be written."""
        mapping = _mapping_of(item)
        self.add(index, None if mapping is None else _custom_id_of(mapping, builder), str(error))
        if mapping is None:
            return _NO_ROW
        self._rows += 1
        if error.missing_column is not None:
            self._missing_columns[error.missing_column] += 1
        try:
            return builder.kept_row(mapping, item.strip() if isinstance(item, bytes) else None)
        except (ValueError, RecursionError, TypeError):
            return _NO_ROW

    @property
    def is_any_column_missing_everywhere(self) -> bool:
        """True if all rejected rows lack the same column."""
        return self._rows in self._missing_columns.values()

    def sort(self) -> None:
        """Sort the positions. Duplicates are added after all other items."""
        self.positions = array("q", sorted(self.positions))


def _mapping_of(item: Any) -> Mapping[Any, Any] | None:
    """Return an item as a mapping, or None if it is none."""
    try:
        value = msgspec.json.decode(item) if isinstance(item, (bytes, str)) else plain_item(item)
    # DecodeError is no ValueError before msgspec 0.21.
    except (msgspec.DecodeError, ValueError, RecursionError, TypeError):
        return None
    return value if isinstance(value, Mapping) else None


def _custom_id_of(item: Mapping[Any, Any], builder: RequestBuilder) -> str | None:
    """Return the custom_id of an item if it has a readable one."""
    name = builder.id_column if builder.needs_rows else "custom_id"
    if name is None:
        return None
    try:
        text = column_text(item, name)
        text.encode()
    except (ValueError, RecursionError, TypeError):
        return None
    return cut(text, MAXIMUM_CUSTOM_ID)
