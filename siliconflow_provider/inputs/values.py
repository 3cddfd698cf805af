"""Items and their values, as users hand them over, turned into plain ones that JSON can hold."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import uuid
from collections.abc import Mapping, Set
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import msgspec

_LARGEST_INTEGER, _SMALLEST_INTEGER = 2**64 - 1, -(2**63)
_TEXTS = (datetime.date, datetime.time, datetime.timedelta, uuid.UUID)


class InvalidItemError(ValueError):
    """An item cannot become a request that the service accepts.

    :param concerns_source: True if the item is not the reason: the prompt or the whole source is
    :param missing_column: the column that the item lacks. If all rows lack it, the whole source is the reason
    """

    def __init__(self, message: str, *, concerns_source: bool = False, missing_column: str | None = None) -> None:
        super().__init__(message)
        self.concerns_source = concerns_source
        self.missing_column = missing_column


def plain_item(item: Any) -> Any:
    """Return an item as a mapping where it is a row in another form; every other item as it is.

    Rows are mappings, named tuples, dataclasses, Pydantic models, and rows of SQLAlchemy and of database drivers.

    :raises InvalidItemError: if two columns of a row have the same name
    """
    if type(item) is list or isinstance(item, (dict, str, bytes)):
        return item
    if isinstance(item, Mapping):
        return dict(item)
    if isinstance(item, type):
        return item
    # A row of SQLAlchemy is a tuple, too, whose fields may have the names of its methods.
    mapping = getattr(item, "_mapping", None)
    if isinstance(mapping, Mapping):
        return dict(mapping)
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return dict(zip(item._fields, item, strict=True))
    if dataclasses.is_dataclass(item):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    if hasattr(item, "model_dump") and hasattr(type(item), "model_fields"):
        return {name: getattr(item, name) for name in type(item).model_fields} | (item.model_extra or {})
    if hasattr(item, "as_py"):
        return item.as_py()
    if isinstance(item, msgspec.Struct):
        return msgspec.structs.asdict(item)
    if hasattr(item, "keys") and hasattr(item, "__getitem__") and not hasattr(item, "shape"):
        return _row_of_driver(item)
    return item


def _row_of_driver(row: Any) -> dict[str, Any]:
    """Return a row of a database driver, such as `sqlite3.Row`, which is no mapping but has names."""
    names = list(row.keys())
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidItemError(f"the row has more than one column {repeated!r}: give each its own name")
    return {name: row[name] for name in names}


def plain_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row with plain values.

    :raises InvalidItemError: when a value cannot be kept; names its column
    """
    plain = {}
    for column, value in row.items():
        if type(column) is not str:
            raise InvalidItemError(f"column {column!r} has a name of type {_type_of(column)}: give it a text")
        try:
            plain[column] = plain_value(value)
        except InvalidItemError as error:
            raise InvalidItemError(f"column {column!r} has {error}") from None
    return plain


def is_missing(value: Any) -> bool:
    """Return True if a value stands for none: None, NaN, and the missing values of pandas and numpy."""
    if value is None:
        return True
    if isinstance(value, (str, int, list, dict)) or getattr(value, "shape", None):
        return False
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    try:
        # NaN and NaT do not equal themselves.
        return bool(value != value)
    except (TypeError, ValueError, ArithmeticError):
        return isinstance(value, Decimal)


def plain_value(value: Any) -> Any:
    """Return a value of the same meaning that `msgspec.json.encode` takes; a missing one is None.

    Times become ISO 8601 texts; decimals and UUIDs become texts, so that they keep their digits.

    :raises InvalidItemError: when it cannot be kept; names its type
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, enum.Enum):
        return plain_value(value.value)
    if isinstance(value, int):
        return _integer(int(value))
    if kind is float:
        return _float(value)
    if is_missing(value):
        return None
    if isinstance(value, str):
        return str(value)
    return _other(value)


def _integer(value: int) -> Any:
    if _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER:
        return value
    # More than the encoder takes, and still JSON.
    return msgspec.Raw(str(value).encode())


def _float(value: float) -> float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise InvalidItemError(f"the value {value}, which JSON does not have")
    return value


def _other(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_row(value)
    if isinstance(value, (list, tuple)):
        return [plain_value(each) for each in value]
    if isinstance(value, _TEXTS):
        return _text_of_time(value)
    if isinstance(value, (Decimal, PurePath)):
        return str(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return _numpy(value)
    if hasattr(value, "to_list"):
        return plain_value(value.to_list())
    item = plain_item(value)
    if item is not value:
        return plain_value(item)
    raise InvalidItemError(f"a value of type {_type_of(value)}: {_remedy_for(value)}")


def _remedy_for(value: Any) -> str:
    if isinstance(value, Set):
        return "give a list, which has an order"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "turn it into a text; give an image as a URL, or as base64 text such as data:image/png;base64,..."
    return "turn it into a text or a number"


def _text_of_time(value: Any) -> str:
    if hasattr(value, "to_pytimedelta"):
        if value.nanoseconds:
            # Only the duration's own method writes them.
            return str(value.isoformat())
        value = value.to_pytimedelta()
    if isinstance(value, (datetime.timedelta, uuid.UUID)):
        text: str = msgspec.to_builtins(value)
        return text
    # Timestamps of pandas have nanoseconds, which only their own method writes.
    written: str = value.isoformat()
    return written


def _numpy(value: Any) -> Any:
    """Return a numpy scalar as a number of as many digits as it has, and an array as a list."""
    if getattr(value, "shape", None):
        return [plain_value(each) for each in (value if value.dtype.kind in "mMfV" else value.tolist())]
    kind = value.dtype.kind
    if kind == "f":
        # As float64, a float32 of 0.1 would be 0.10000000149011612.
        return _float(float(str(value)))
    if kind == "M":
        return str(value)
    if kind in "biuU":
        return plain_value(value.item())
    raise InvalidItemError(f"a value of type {_type_of(value)}: turn it into a text or a number")


def _type_of(value: Any) -> str:
    return type(value).__name__
