"""Tables in memory, read as rows: data frames, and whatever has the Arrow stream interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from siliconflow_provider.inputs.exact_values import (
    exact_values_of_arrow,
    exact_values_of_polars,
    narrow_columns_of_pandas,
    shorten_floats,
)
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.schemas import SourceSchema, schema_of_frame

ROWS_AT_ONCE = 1_000
_SIGNS_OF_TABLES = ("__arrow_c_stream__", "__dataframe__", "to_batches", "collect_schema")
# The names that pandas gives to an index which has none.
_UNNAMED_INDEX = "__index_level_"


class TableError(InvalidRequestFileError):
    """A table that cannot be read as rows."""


def is_table(value: Any) -> bool:
    """Return True if a value is a table: iterating over one would yield the names of its columns, or nothing.

    A single column, such as a series, is an iterable of its values instead.
    """
    if isinstance(value, type) or not any(hasattr(value, name) for name in _SIGNS_OF_TABLES):
        return False
    is_column = any(hasattr(value, name) for name in ("to_list", "to_pylist", "tolist"))
    return not is_column or hasattr(value, "columns") or hasattr(value, "schema")


def rows_of_table(table: Any) -> Iterator[SourceSchema | dict[str, Any]]:
    """Yield the schema of a table, if it is known, and the rows, reading some at a time.

    :raises TableError: when it is none that can be read
    """
    if hasattr(table, "iterrows") and hasattr(table, "iloc"):
        return _after_schema(schema_of_frame(table), _rows_of_pandas(table))
    if _kind(table).startswith("polars") and hasattr(table, "iter_rows"):
        _check_columns(table.columns)
        return _after_schema(schema_of_frame(table), _rows_of_polars(table))
    if hasattr(table, "collect_schema") and hasattr(table, "collect"):
        raise TableError(f"{_kind(table)} is not computed yet: give .collect() of it")
    if hasattr(table, "__arrow_c_stream__") or hasattr(table, "to_batches"):
        return _rows_of_arrow(table)
    raise TableError(f"{_kind(table)} cannot be read as rows: give a data frame, or an iterable of rows")


def rows_of_batches(batches: Iterable[Any], source: str = "the table") -> Iterator[dict[str, Any]]:
    """Yield the rows of Arrow record batches.

    :param source: of the batches, for errors
    :raises TableError: if Python cannot hold a value; names its column
    """
    for batch in batches:
        names = batch.schema.names
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            part = batch.slice(start, ROWS_AT_ONCE)
            columns = {name: _values_of(part.column(at), name, source) for at, name in enumerate(names)}
            for number in range(part.num_rows):
                yield {name: values[number] for name, values in columns.items()}


def _values_of(column: Any, name: str, source: str) -> list[Any]:
    """Return the values of an Arrow array."""
    try:
        values: list[Any] = exact_values_of_arrow(column).to_pylist()
    except (ValueError, OverflowError, ArithmeticError, LookupError, NotImplementedError) as error:
        raise TableError(
            f"{source}: column {name!r} of type {column.type} has a value that cannot be read ({error}): "
            "cast the column to text, or leave it out"
        ) from None
    return values


def check_columns(names: Iterable[Any], source: str) -> None:
    """Raise TableError if two columns have the same name: a row could have only one of them."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise TableError(f"{source} has more than one column {repeated[0]!r}: give each its own name")


def _check_columns(names: Iterable[Any]) -> None:
    check_columns(names, "the table")


def _after_schema(
    schema: SourceSchema | None, rows: Iterator[dict[str, Any]]
) -> Iterator[SourceSchema | dict[str, Any]]:
    if schema is not None:
        yield schema
    yield from rows


def _rows_of_pandas(frame: Any) -> Iterator[dict[str, Any]]:
    _check_columns(frame.columns)
    narrow = narrow_columns_of_pandas(frame)
    for start in range(0, len(frame), ROWS_AT_ONCE):
        rows = frame.iloc[start : start + ROWS_AT_ONCE].to_dict("records")
        shorten_floats(rows, narrow)
        yield from rows


def _rows_of_polars(frame: Any) -> Iterator[dict[str, Any]]:
    for part in frame.iter_slices(ROWS_AT_ONCE):
        yield from exact_values_of_polars(part).iter_rows(named=True)


def _rows_of_arrow(table: Any) -> Iterator[SourceSchema | dict[str, Any]]:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise TableError(
            f"{_kind(table)} is read by pyarrow, which is not installed: pip install "
            "'airflow-provider-siliconflow[arrow]'"
        ) from None
    if isinstance(table, (pyarrow.Table, pyarrow.RecordBatch)):
        _check_columns(table.schema.names)
        batches = table.to_batches() if isinstance(table, pyarrow.Table) else [table]
        return _after_schema(SourceSchema(table.schema), rows_of_batches(batches))
    if hasattr(table, "to_batches") and not hasattr(table, "__arrow_c_stream__"):
        _check_columns(table.schema.names)
        return _after_schema(_arrow_schema(table.schema), rows_of_batches(table.to_batches()))
    reader = pyarrow.RecordBatchReader.from_stream(table)
    _check_columns(reader.schema.names)
    return _after_schema(SourceSchema(reader.schema), rows_of_batches(reader))


def _arrow_schema(schema: Any) -> SourceSchema | None:
    """Return the schema of a table of another library, whose class may only resemble that of pyarrow."""
    import pyarrow

    return SourceSchema(schema) if isinstance(schema, pyarrow.Schema) else None


def _kind(table: Any) -> str:
    return f"{type(table).__module__.partition('.')[0]}'s {type(table).__name__}"
