from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal
from io import BytesIO
from typing import Any

import duckdb
import pandas
import polars
import pyarrow
import pytest

from siliconflow_provider.inputs.preparation import prepare
from siliconflow_provider.inputs.problems import InvalidRequestFileError
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.inputs.schemas import SourceSchema
from siliconflow_provider.inputs.tables import TableError, is_table, rows_of_table
from siliconflow_provider.inputs.values import plain_value

ROWS = [{"id": 1, "q": "one"}, {"id": 2, "q": None}, {"id": 3, "q": "three"}]
TABLE = pyarrow.Table.from_pylist(ROWS)


def rows_in(items: Iterable[Any]) -> list[Any]:
    """Return the items without the schema that tables of known types yield first."""
    return [item for item in items if not isinstance(item, SourceSchema)]


class Stream:
    """A table of somebody else's: it has the Arrow stream interface and nothing more."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return TABLE.__arrow_c_stream__(requested_schema)


TABLES = [
    pandas.DataFrame(ROWS),
    pandas.DataFrame(ROWS, index=["a", "b", "c"]),
    polars.DataFrame(ROWS),
    TABLE,
    TABLE.to_batches()[0],
    TABLE.to_reader(),
    duckdb.from_arrow(TABLE),
    Stream(),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{type(table).__module__}.{type(table).__name__}")
def test_a_table_is_read_by_its_rows(table: Any) -> None:
    assert is_table(table)
    assert rows_in(rows_of_table(table)) == ROWS


@pytest.mark.parametrize(
    "value",
    [
        ROWS,
        pandas.Series(["a"]),
        polars.Series(["a"]),
        pyarrow.chunked_array([["a"]]),
        "text",
        (row for row in ROWS),
        {"id": 1},
        pandas.DataFrame,
        7,
        None,
    ],
)
def test_other_values_are_no_tables(value: Any) -> None:
    assert not is_table(value)


def test_many_rows_are_read_some_at_a_time() -> None:
    rows = [{"number": number} for number in range(2_500)]
    for table in (pandas.DataFrame(rows), pyarrow.Table.from_pylist(rows)):
        assert rows_in(rows_of_table(table)) == rows


def test_mixed_columns_of_pandas_are_kept() -> None:
    rows = [{"value": 1}, {"value": "text"}, {"value": [1, 2]}]
    assert rows_in(rows_of_table(pandas.DataFrame(rows))) == rows


def test_types_of_arrow_keep_their_values() -> None:
    row = {"price": Decimal("1.10"), "day": datetime.date(2026, 1, 2), "tags": ["a", "b"], "deep": {"x": 1}}
    assert rows_in(rows_of_table(pyarrow.Table.from_pylist([row]))) == [row]


NARROW = pyarrow.table(
    {
        "f": pyarrow.array([0.1, None, 16_777_216.0], pyarrow.float32()),
        "l": pyarrow.array([[0.1, None], None, []], pyarrow.list_(pyarrow.float32())),
        "s": pyarrow.array([{"a": 0.1}] * 3, pyarrow.struct([("a", pyarrow.float32())])),
    }
)


@pytest.mark.parametrize(
    "table",
    [
        NARROW,
        polars.from_arrow(NARROW),
        duckdb.from_arrow(NARROW),
        NARROW.select(["f"]).to_pandas(),
        NARROW.select(["f"]).to_pandas().astype("Float32"),
        NARROW.select(["f"]).to_pandas(types_mapper=pandas.ArrowDtype),
    ],
    ids=lambda table: type(table).__module__,
)
def test_float32_keeps_its_digits(table: Any) -> None:
    rows = [{name: plain_value(value) for name, value in row.items()} for row in rows_in(rows_of_table(table))]
    assert [row["f"] for row in rows] == [0.1, None, 16_777_216.0]
    if "l" in rows[0]:
        assert [row["l"] for row in rows] == [[0.1, None], None, []]
        assert rows[0]["s"] == {"a": 0.1}


def test_a_missing_column_may_be_the_index() -> None:
    frame = pandas.DataFrame({"q": ["a"]}, index=pandas.Index(["r1"], name="id"))
    with pytest.raises(
        InvalidRequestFileError, match=r"no column 'id'.*'id' is the index of the data frame: give df\.reset_index"
    ):
        prepare(
            rows_of_table(frame),
            RequestBuilder(prompt="{q}", id_column="id", model="m"),
            BytesIO(),
            BytesIO(),
            name="it",
        )


def test_a_value_that_python_lacks_is_named() -> None:
    for column in (pyarrow.array([1], pyarrow.time64("ns")), pyarrow.array([2**60], pyarrow.timestamp("s"))):
        with pytest.raises(TableError, match=r"^the table: column 'q' of type t.* cast the column to text"):
            list(rows_of_table(pyarrow.table({"q": column})))


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (polars.LazyFrame(ROWS), r"polars's LazyFrame is not computed yet: give \.collect\(\) of it"),
        (pandas.DataFrame([[1, 2]], columns=["q", "q"]), "more than one column 'q': give each its own name"),
        (pyarrow.table([[1], [2]], names=["q", "q"]), "more than one column 'q': give each its own name"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_read_by_rows_is_named(table: Any, problem: str) -> None:
    assert is_table(table)
    with pytest.raises(TableError, match=problem):
        rows_in(rows_of_table(table))


def test_a_missing_pyarrow_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(TableError, match=r"pyarrow, which is not installed: pip install .*\[arrow\]"):
        rows_of_table(Stream())
