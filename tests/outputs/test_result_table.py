from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow
import pytest
from pyarrow import parquet

from siliconflow_provider.outputs import result_table
from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.outputs.columns import MOST_COLUMNS
from siliconflow_provider.outputs.result_table import ResultTable

RESULT_COLUMNS = [name for name in ResultRow.__struct_fields__ if name not in ("error", "output", "input")]
HUGE = 10**30


def table_of(rows: list[dict[str, Any]], schema: pyarrow.Schema | None = None, output: Any = None) -> ResultTable:
    lines = [msgspec.json.encode({"custom_id": "c", "status": "succeeded", **row}) + b"\n" for row in rows]
    return ResultTable(lambda: iter(lines), None if schema is None else schema.serialize().to_pybytes(), output)


def parquet_of(table: ResultTable) -> pyarrow.Table:
    file = io.BytesIO()
    table.write("parquet", file)
    return parquet.read_table(file)


def csv_of(table: ResultTable) -> bytes:
    file = io.BytesIO()
    table.write("csv", file)
    return file.getvalue()


def inputs(*rows: Any, schema: pyarrow.Schema | None = None) -> pyarrow.Table:
    """Return the input columns of a table with these input rows."""
    table = parquet_of(table_of([{"input": row} for row in rows], schema))
    return table.select([name for name in table.column_names if source_of(table, name).startswith("input")])


def source_of(table: pyarrow.Table, name: str) -> str:
    return str(table.schema.field(name).metadata[b"siliconflow"].decode())


def test_table_has_every_field_of_a_row() -> None:
    error = AnswerError("400", "bad", 400)
    row = ResultRow(index=0, custom_id="a", status="failed", prompt_tokens=2, error=error, round=1)
    table = ResultTable(lambda: [msgspec.json.encode(row)], None, None)
    (written,) = parquet_of(table).to_pylist()
    assert list(written) == [
        column for name in ResultRow.__struct_fields__ if name not in ("output", "input")
        for column in (["error_code", "error_message", "error_status"] if name == "error" else [name])
    ]  # fmt: skip
    assert {name: value for name, value in written.items() if value is not None} == {
        "index": 0, "custom_id": "a", "status": "failed", "prompt_tokens": 2, "error_code": "400",
        "error_message": "bad", "error_status": 400, "round": 1,
    }  # fmt: skip


def test_columns_do_not_depend_on_the_rows() -> None:
    """A table of one day has to fit to that of another."""
    answered = {"refusal": "no", "choices": [{}], "logprobs": {}, "prompt_tokens": 1, "content": "a", "round": 1}
    tables = [parquet_of(table_of(rows)) for rows in ([], [{}], [answered])]
    assert tables[0].schema.equals(tables[1].schema)
    assert tables[0].schema.equals(tables[2].schema)
    assert [table.num_rows for table in tables] == [0, 1, 1]


@pytest.mark.parametrize(
    ("values", "kind", "written"),
    [
        ([1, None, -(2**63)], pyarrow.int64(), ...),
        ([2**53 + 1], pyarrow.int64(), ...),
        ([1, 0.5], pyarrow.float64(), [1.0, 0.5]),
        ([True, None], pyarrow.bool_(), ...),
        (["a", ""], pyarrow.string(), ...),
        ([None, None], pyarrow.string(), ...),
        ([2**53 + 1, 0.5], pyarrow.string(), [str(2**53 + 1), "0.5"]),
        ([2**63, None], pyarrow.string(), [str(2**63), None]),
        ([HUGE, [HUGE]], pyarrow.string(), [str(HUGE), f"[{HUGE}]"]),
        ([True, 1], pyarrow.string(), ["true", "1"]),
        ([1, "1", "x"], pyarrow.string(), ["1", "1", "x"]),
        ([[1, "é"], {"a": None}], pyarrow.string(), ['[1,"é"]', '{"a":null}']),
        (["2026-11-26T00:00:00"], pyarrow.string(), ...),
    ],
    ids=str,
)
def test_type_of_json_column_holds_all_values(values: list[Any], kind: pyarrow.DataType, written: Any) -> None:
    rows = [f'{{"custom_id":"c","status":"failed","input":{{"x":{json.dumps(value)}}}}}'.encode() for value in values]
    column = parquet_of(ResultTable(lambda: rows, None, None))["x"]
    assert (column.type, column.to_pylist()) == (kind, values if written is ... else written)


def test_type_is_that_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_table, "BLOCK_ROWS", 2)
    monkeypatch.setattr(result_table, "GROUP_ROWS", 4)
    rows: list[dict[str, Any]] = [{"input": {"x": number}} for number in range(9)]
    rows[7] = {"input": {"x": 7.5, "late": True}}
    file = io.BytesIO()
    table_of(rows).write("parquet", file)
    assert parquet.ParquetFile(file).metadata.num_row_groups == 3
    table = parquet.read_table(file)
    assert table["x"].to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0]
    assert table["late"].to_pylist() == [None] * 7 + [True, None]


def test_input_columns_come_back_in_their_types() -> None:
    schema = pyarrow.schema(
        [
            ("id", pyarrow.int8()),
            ("at", pyarrow.timestamp("us", "Asia/Shanghai")),
            ("price", pyarrow.decimal128(9, 2)),
            ("tags", pyarrow.list_(pyarrow.string())),
            ("kind", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
            ("unknown", pyarrow.null()),
        ]
    )
    row = {"id": 1, "at": "2026-11-26T08:00:00+08:00", "price": "1.10", "tags": ["a"], "kind": "k", "unknown": 2}
    table = inputs(row, schema=schema)
    assert table.schema.types == [
        *schema.types[:4], pyarrow.string(), pyarrow.int64(),
    ]  # fmt: skip
    (written,) = table.to_pylist()
    assert written["at"] == datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)
    assert (written["price"], written["tags"], written["kind"]) == (Decimal("1.10"), ["a"], "k")
    assert inputs(schema=schema).column_names == schema.names


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1, 300], pyarrow.int64()), ([1, "x"], pyarrow.string()), ([1, 0.5], pyarrow.float64())],
    ids=str,
)
def test_value_outside_its_type_changes_the_column(values: list[Any], kind: pyarrow.DataType) -> None:
    """One file of a directory may have other values than the schema of another."""
    schema = pyarrow.schema([("x", pyarrow.int8()), ("y", pyarrow.int8())])
    table = inputs(*({"x": value, "y": 1} for value in values), schema=schema)
    assert table.schema.types == [kind, pyarrow.int8()]
    assert list(map(str, table["x"].to_pylist())) in (list(map(str, values)), ["1.0", "0.5"])


def test_input_columns_keep_their_names() -> None:
    row = {
        "input": {"status": "open", "Model": "m", "total": 1, "result_status": 2},
        "output": {"total": 3, "round": 4},
    }
    table = parquet_of(table_of([row], output={"total": "integer"}))
    names = {source_of(table, name): name for name in table.column_names}
    assert len(names) == len({name.lower() for name in table.column_names}) == len(RESULT_COLUMNS) + 3 + 6
    assert {source: name for source, name in names.items() if source.startswith("input")} == {
        "input.status": "status", "input.Model": "Model", "input.total": "total",
        "input.result_status": "result_status",
    }  # fmt: skip
    assert (names["status"], names["model"], names["round"]) == ("result_result_status", "result_model", "round")
    assert (names["output.total"], names["output.round"]) == ("output_total", "output_round")
    (written,) = table.to_pylist()
    assert (written["status"], written["result_result_status"], written["total"]) == ("open", "succeeded", 1)
    assert (written["output_total"], written["output_round"]) == (3, 4)


def test_output_fields_have_the_types_of_the_schema() -> None:
    output = {"name": "string", "count": "integer", "share": "number", "good": "boolean", "tags": "string"}
    rows = [{"output": {"name": "a", "count": 1, "share": 1, "good": True, "tags": ["x"]}}, {}]
    table = parquet_of(table_of(rows, output=output)).select(list(output))
    assert table.schema.types == [
        pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_(), pyarrow.string(),
    ]  # fmt: skip
    assert table.to_pylist()[0] == {"name": "a", "count": 1, "share": 1.0, "good": True, "tags": '["x"]'}
    assert table.schema.equals(parquet_of(table_of([], output=output)).select(list(output)).schema)
    assert parquet_of(table_of([{"output": {"count": "many"}}], output=output))["count"].to_pylist() == ["many"]


@pytest.mark.parametrize(
    ("outputs", "declared", "kind"),
    [
        ([[1], [2]], "string", pyarrow.string()),
        ([1, None], "integer", pyarrow.int64()),
        ([], "number", pyarrow.float64()),
        ([{"a": 1}], "string", pyarrow.string()),
        ([1, {"a": 1}], {}, pyarrow.string()),
    ],
)
def test_output_that_is_no_object_is_one_column(outputs: list[Any], declared: Any, kind: pyarrow.DataType) -> None:
    assert parquet_of(table_of([{"output": each} for each in outputs], output=declared))["output"].type == kind


def test_very_many_input_columns_are_one() -> None:
    rows = [{f"c{number}": 1} for number in range(MOST_COLUMNS + 1)]
    assert len(inputs(*rows[1:]).column_names) == MOST_COLUMNS
    table = inputs(*rows)
    assert table.column_names == ["input"]
    assert table["input"].to_pylist()[1] == '{"c1":1}'


def test_csv_follows_rfc_4180() -> None:
    row = {"content": 'a "b", c\r\nd', "tool_calls": [{"x": 1}], "input": {"sum": "=1+2", "none": None, "empty": ""}}
    content = csv_of(table_of([row, {"custom_id": "é"}]))
    head, first, rest = content.decode().split("\r\n", 2)
    assert head.split(",")[:3] == ["index", "custom_id", "status"]
    assert head.endswith(",sum,none,empty")
    assert first.startswith(',c,succeeded,"a ""b"", c')
    assert rest.endswith(",,,\r\n")
    assert ',=1+2,,""\r\n' in content.decode()
    read = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert (read[0]["content"], read[0]["tool_calls"], read[1]["custom_id"]) == (row["content"], '[{"x":1}]', "é")


def test_csv_and_parquet_have_the_same_columns() -> None:
    rows = [{"input": {"status": 1}, "output": {"x": 1}}, {"error": {"code": "c", "message": "m"}}]
    table = table_of(rows)
    assert csv_of(table).split(b"\r\n")[0].decode().split(",") == parquet_of(table).column_names


def test_csv_needs_no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = pyarrow.schema([("x", pyarrow.int8())])
    table = table_of([{"input": {"x": 1}}], schema)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert csv_of(table).endswith(b",1\r\n")


def test_batches_stream_and_select_by_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_table, "BLOCK_ROWS", 2)
    read = []

    def lines() -> Iterator[bytes]:
        for number in range(6):
            read.append(number)
            status = "failed" if number < 2 else "succeeded"
            yield msgspec.json.encode({"index": number, "custom_id": "c", "status": status})

    reader = ResultTable(lines, None, None).batches(["succeeded"])
    read.clear()
    assert reader.read_next_batch()["index"].to_pylist() == [2, 3]
    assert len(read) == 4
    assert reader.read_all()["index"].to_pylist() == [4, 5]


def test_error_of_the_storage_is_not_hidden() -> None:
    class Full(io.BytesIO):
        def write(self, block: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        table_of([{}]).write("parquet", Full())
