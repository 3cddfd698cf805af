"""Restore values of Arrow types from the JSON that rows are kept as."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow
from pyarrow import parquet, types

if TYPE_CHECKING:
    from pyarrow import DataType

Restore = Callable[[Any], Any]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_DAY = 86_400 * 10**9
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
# A double has all integers up to this one.
_LARGEST_EXACT = 2**53


def restored_type(wanted: DataType) -> DataType | None:
    """Return the type in which a column of this type comes back, or None if it is inferred from its values.

    Dictionaries come back as their values, and views as the type that they are a view of.
    """
    found = _restored_type(wanted)
    if found is not None:
        try:
            parquet.write_table(pyarrow.table({"column": pyarrow.nulls(1, found)}), io.BytesIO())
        except (pyarrow.ArrowException, NotImplementedError):
            return None
    return found


def _restored_type(wanted: DataType) -> DataType | None:
    if types.is_dictionary(wanted):
        return _restored_type(wanted.value_type)
    if types.is_string_view(wanted):
        return pyarrow.string()
    if types.is_struct(wanted):
        inner = [_restored_field(wanted.field(number)) for number in range(wanted.num_fields)]
        return pyarrow.struct(inner) if inner and all(field is not None for field in inner) else None
    if types.is_map(wanted):
        key, item = _restored_type(wanted.key_type), _restored_type(wanted.item_type)
        return None if key is None or item is None else pyarrow.map_(key, item)
    if types.is_list(wanted) or types.is_large_list(wanted) or types.is_fixed_size_list(wanted):
        field = _restored_field(wanted.value_field)
        if field is None:
            return None
        if types.is_fixed_size_list(wanted):
            return pyarrow.list_(field, wanted.list_size)
        return pyarrow.large_list(field) if types.is_large_list(wanted) else pyarrow.list_(field)
    return wanted if _restore_scalar(wanted) is not None else None


def _restored_field(field: pyarrow.Field) -> pyarrow.Field | None:
    inner = _restored_type(field.type)
    return None if inner is None else field.with_type(inner)


def restored_array(values: Iterable[Any], wanted: DataType) -> pyarrow.Array:
    """Return JSON values as an array.

    :param wanted: a type that `restored_type` has returned
    :raises ValueError: if a value is not of this type; so do TypeError, ArithmeticError and pyarrow's errors
    """
    restore = _optional(_restorer(wanted))
    return pyarrow.array([restore(value) for value in values], wanted)


def _restorer(wanted: DataType) -> Restore:
    if types.is_struct(wanted):
        inner = {wanted.field(n).name: _optional(_restorer(wanted.field(n).type)) for n in range(wanted.num_fields)}
        return lambda value: {name: inner[name](each) for name, each in _checked(value, dict).items()}
    if types.is_map(wanted):
        key, item = _restorer(wanted.key_type), _optional(_restorer(wanted.item_type))
        return lambda value: [(key(name), item(each)) for name, each in _checked(value, list)]
    if types.is_nested(wanted):
        element = _optional(_restorer(wanted.value_type))
        return lambda value: [element(each) for each in _checked(value, list)]
    restore = _restore_scalar(wanted)
    if restore is None:
        raise TypeError(f"{wanted} is not restored")
    return restore


def _optional(restore: Restore) -> Restore:
    return lambda value: None if value is None else restore(value)


def _restore_scalar(wanted: DataType) -> Restore | None:
    """Return the function that restores a value of a type without inner types; None if the type is not restored."""
    if types.is_boolean(wanted):
        return lambda value: _checked(value, bool)
    if types.is_integer(wanted):
        return lambda value: _checked(value, int)
    if types.is_floating(wanted):
        return _float
    if types.is_string(wanted) or types.is_large_string(wanted):
        return lambda value: _checked(value, str)
    if types.is_decimal(wanted):
        return lambda value: Decimal(_checked(value, str))
    return _restore_time(wanted)


def _restore_time(wanted: DataType) -> Restore | None:
    if types.is_date32(wanted):
        return lambda value: datetime.date.fromisoformat(value).toordinal() - _EPOCH_DAY
    if types.is_date64(wanted):
        return lambda value: (datetime.date.fromisoformat(value).toordinal() - _EPOCH_DAY) * 86_400_000
    if types.is_timestamp(wanted):
        is_zoned = wanted.tz is not None
        return lambda value: _in_unit(_timestamp(value, is_zoned=is_zoned), wanted.unit)
    if types.is_time(wanted):
        return lambda value: _in_unit(_timestamp(f"1970-01-01T{value}", is_zoned=False), wanted.unit)
    if types.is_duration(wanted):
        return lambda value: _in_unit(_nanoseconds(msgspec.convert(value, datetime.timedelta)), wanted.unit)
    return None


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _float(value: Any) -> float:
    if type(value) is int and abs(value) <= _LARGEST_EXACT:
        return float(value)
    number: float = _checked(value, float)
    return number


def _timestamp(text: str, *, is_zoned: bool) -> int:
    """Return the nanoseconds from the epoch to a time in ISO 8601; pandas writes nine digits of a second."""
    head, dot, tail = text.partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))] if dot else ""
    time = datetime.datetime.fromisoformat(head + tail[len(digits) :])
    if (time.tzinfo is not None) is not is_zoned:
        raise ValueError(f"{text} has {'no ' if is_zoned else 'a '}time zone")
    since = (time if is_zoned else time.replace(tzinfo=datetime.UTC)) - _EPOCH
    return _nanoseconds(since) + int(digits.ljust(9, "0")[:9] or 0)


def _nanoseconds(duration: datetime.timedelta) -> int:
    return duration.days * _DAY + duration.seconds * 10**9 + duration.microseconds * 1_000


def _in_unit(nanoseconds: int, unit: str) -> int:
    count, rest = divmod(nanoseconds, _NANOSECONDS[unit])
    if rest:
        raise ValueError(f"{nanoseconds} ns is no whole number of {unit}")
    return count
