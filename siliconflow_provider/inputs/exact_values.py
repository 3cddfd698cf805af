"""Let values of tables keep their digits when they become values of Python.

A float32 would get digits of a float64: 0.10000000149011612 for 0.1. By way of a text, it becomes the float64 with the
fewest digits that read back as the same float32. Times of Arrow would lose their nanoseconds.
"""

from __future__ import annotations

from typing import Any

# Of pandas: numpy's own type and the nullable one, and that of pyarrow.
_PANDAS_TYPES = ("float32", "float[pyarrow]")


def exact_values_of_arrow(column: Any) -> Any:
    """Return an Arrow array; its float32 values, also in lists and structs, are float64 of the same digits.

    :raises pyarrow.ArrowInvalid: if a time has nanoseconds, which Python's times do not have
    """
    import pyarrow

    exact = _arrow_type(column.type, pyarrow.float64())
    if exact == column.type:
        return column
    try:
        return column.cast(_arrow_type(column.type, pyarrow.string())).cast(exact)
    except pyarrow.ArrowNotImplementedError:
        # Not every type can be cast.
        return column


def _arrow_type(kind: Any, for_float32: Any) -> Any:
    """Return an Arrow type with another type in place of float32, and microseconds in times."""
    import pyarrow
    from pyarrow import types

    if types.is_float32(kind):
        return for_float32
    if kind == pyarrow.time64("ns"):
        return pyarrow.time64("us")
    if types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pyarrow.struct([field.with_type(_arrow_type(field.type, for_float32)) for field in fields])
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(_arrow_type(kind.value_type, for_float32), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        make = pyarrow.list_ if types.is_list(kind) else pyarrow.large_list
        return make(kind.value_field.with_type(_arrow_type(kind.value_type, for_float32)))
    if types.is_map(kind):
        return pyarrow.map_(_arrow_type(kind.key_type, for_float32), _arrow_type(kind.item_type, for_float32))
    return kind


def exact_values_of_polars(frame: Any) -> Any:
    """Return a frame of polars; its float32 values, also in lists and structs, are float64 of the same digits."""
    import polars

    casts = []
    for name, kind in frame.schema.items():
        exact = _polars_type(kind, polars.Float64)
        if exact != kind:
            casts.append(polars.col(name).cast(_polars_type(kind, polars.String)).cast(exact))
    return frame.with_columns(casts) if casts else frame


def _polars_type(kind: Any, for_float32: Any) -> Any:
    """Return a type of polars with another type in place of float32."""
    import polars

    if kind == polars.Float32:
        return for_float32
    if isinstance(kind, polars.List):
        return polars.List(_polars_type(kind.inner, for_float32))
    if isinstance(kind, polars.Struct):
        return polars.Struct({field.name: _polars_type(field.dtype, for_float32) for field in kind.fields})
    return kind


def narrow_columns_of_pandas(frame: Any) -> list[Any]:
    """Return the names of a pandas frame's float32 columns."""
    return [column for column, kind in frame.dtypes.items() if str(kind).lower() in _PANDAS_TYPES]


def shorten_floats(rows: list[dict[Any, Any]], columns: list[Any]) -> None:
    """Give the values of float32 columns, which are float64 in these rows, their digits as float32."""
    if not columns:
        return
    import numpy

    for row in rows:
        for column in columns:
            if isinstance(row[column], float):
                row[column] = float(str(numpy.float32(row[column])))
