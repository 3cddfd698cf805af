"""Tables in memory, read as rows: data frames, and whatever has the Arrow stream interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from siliconflow_provider.inputs.problems import InvalidRequestFileError

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


def rows_of_table(table: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, reading some at a time.

    :raises TableError: when it is none that can be read
    """
    if hasattr(table, "iterrows") and hasattr(table, "iloc"):
        return _rows_of_pandas(table)
    if _kind(table).startswith("polars") and hasattr(table, "iter_rows"):
        _check_columns(table.columns)
        rows: Iterator[dict[str, Any]] = table.iter_rows(named=True)
        return rows
    if hasattr(table, "collect_schema") and hasattr(table, "collect"):
        raise TableError(f"{_kind(table)} is not computed yet: give .collect() of it")
    if hasattr(table, "__arrow_c_stream__") or hasattr(table, "to_batches"):
        return _rows_of_arrow(table)
    raise TableError(f"{_kind(table)} cannot be read as rows: give a data frame, or an iterable of rows")


def rows_of_batches(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of Arrow record batches."""
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            yield from batch.slice(start, ROWS_AT_ONCE).to_pylist()


def check_columns(names: Iterable[Any], source: str) -> None:
    """Raise TableError if two columns have the same name: a row could have only one of them."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise TableError(f"{source} has more than one column {repeated[0]!r}: give each its own name")


def _check_columns(names: Iterable[Any]) -> None:
    check_columns(names, "the table")


def _rows_of_pandas(frame: Any) -> Iterator[dict[str, Any]]:
    _check_columns(frame.columns)
    for start in range(0, len(frame), ROWS_AT_ONCE):
        yield from frame.iloc[start : start + ROWS_AT_ONCE].to_dict("records")


def _rows_of_arrow(table: Any) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise TableError(
            f"{_kind(table)} is read by pyarrow, which is not installed: pip install "
            "'airflow-provider-siliconflow[arrow]'"
        ) from None
    if isinstance(table, (pyarrow.Table, pyarrow.RecordBatch)):
        _check_columns(table.schema.names)
        return rows_of_batches(table.to_batches() if isinstance(table, pyarrow.Table) else [table])
    if hasattr(table, "to_batches") and not hasattr(table, "__arrow_c_stream__"):
        _check_columns(table.schema.names)
        return rows_of_batches(table.to_batches())
    reader = pyarrow.RecordBatchReader.from_stream(table)
    _check_columns(reader.schema.names)
    return rows_of_batches(reader)


def _kind(table: Any) -> str:
    return f"{type(table).__module__.partition('.')[0]}'s {type(table).__name__}"
