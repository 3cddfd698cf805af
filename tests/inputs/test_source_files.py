from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from siliconflow_provider.inputs.schemas import SourceSchema
from siliconflow_provider.inputs.source_files import InputFileError, format_of, items_of_file, partition_columns
from siliconflow_provider.inputs.tables import TableError

ROWS = [{"id": "1", "q": "a"}, {"id": "2", "q": "b"}]


def read(name: str, content: bytes, piece: int = 1 << 16) -> list[Any]:
    def pieces() -> Iterator[bytes]:
        yield from (content[start : start + piece] for start in range(0, len(content), piece))

    items = items_of_file(name, pieces, lambda: io.BytesIO(content))
    return [item for item in items if not isinstance(item, SourceSchema)]


def parquet_of(rows: list[dict[str, Any]], **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jsonl", "jsonl"),
        ("a.NDJSON.gz", "jsonl"),
        ("a.csv", "csv"),
        ("a.tsv.gz", "csv"),
        ("a.CSV", "csv"),
        ("s3://bucket/a.parquet", "parquet"),
        ("a.json", "jsonl"),
        ("a", "jsonl"),
    ],
)
def test_a_name_says_the_format(name: str, form: str) -> None:
    assert format_of(name) == form


def test_json_lines_come_as_they_are() -> None:
    content = b'{"q": "a"}\n{"q": "b"}\n'
    assert b"".join(read("a.jsonl", content, 5)) == content


@pytest.mark.parametrize(
    "content",
    [
        b"id,q\n1,a\n2,b\n",
        b"id,q\r\n1,a\r\n2,b",
        b"\xef\xbb\xbfid,q\n1,a\n2,b\n",
        b"id;q\n1;a\n2;b\n",
        b"id\tq\n1\ta\n2\tb\n",
        b"id|q\n1|a\n2|b\n",
        b'"id","q"\n"1","a"\n\n"2","b"\n',
        b'"i""d;;;","q"\n1,a\n2,b\n'.replace(b'i""d;;;', b"id"),
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_csv_is_read_with_its_delimiter_and_its_quotes(content: bytes, piece: int) -> None:
    assert read("a.csv", content, piece) == ROWS


def test_csv_values_stay_texts_and_empty_cells_are_missing() -> None:
    content = 'id,zip,big,text\n007,01234,12345678901234567890123,"a, ""b""\nand c"\n8,,1.10,é\n'.encode()
    assert read("a.csv", content) == [
        {"id": "007", "zip": "01234", "big": "12345678901234567890123", "text": 'a, "b"\nand c'},
        {"id": "8", "zip": None, "big": "1.10", "text": "é"},
    ]


def test_a_csv_of_one_column_has_no_delimiter() -> None:
    assert read("a.csv", b"q\none two\nthree\n") == [{"q": "one two"}, {"q": "three"}]


def test_long_cells_are_read() -> None:
    (row,) = read("a.csv", b"q\n" + b"x" * 1_000_000 + b"\n")
    assert len(row["q"]) == 1_000_000


@pytest.mark.parametrize("content", [b"", b"id,q\n", b"\xef\xbb\xbf"])
def test_a_csv_without_rows_has_no_items(content: bytes) -> None:
    assert read("a.csv", content) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'id,q\n1,"a\n', "is not CSV after line"),
        (b"id,q\n1,caf\xe9\n", "is not UTF-8 after line"),
        (b"id,id\n1,2\n", "has more than one column 'id'"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named(content: bytes, problem: str) -> None:
    with pytest.raises((InputFileError, TableError), match=f"a.csv {problem}"):
        read("a.csv", content)


def test_parquet_is_read_by_row_groups() -> None:
    rows = [{"id": number, "price": Decimal("1.10"), "tags": ["a"]} for number in range(2_500)]
    assert read("a.parquet", parquet_of(rows, row_group_size=700)) == rows


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.parquet", b"id,q\n1,a\n", "is not a Parquet file"),
        ("a.jsonl", parquet_of([{"q": "a"}]), r"is a Parquet file, not jsonl: rename it to end in \.parquet"),
        ("a.csv", gzip.compress(b"id,q\n"), r"is compressed by gzip, not csv: rename it to end in \.gz"),
        ("a.csv", b"PK\x03\x04...", "is a ZIP archive or an Excel workbook, not csv: convert it to csv"),
        ("a.jsonl", '{"q": "a"}'.encode("utf-16"), "is text in UTF-16, not jsonl: convert it to jsonl"),
        ("a.json", json.dumps(ROWS).encode(), "is a JSON array, and JSON lines are wanted, one object a line"),
        ("a.json", json.dumps(ROWS, indent=2).encode(), "is a JSON array, and JSON lines are wanted"),
        ("a.jsonl", b"\xef\xbb\xbf [\n", "is a JSON array"),
        ("a.jsonl", b"[]\n", "is a JSON array"),
    ],
)
def test_another_format_than_the_name_says_is_named(name: str, content: bytes, problem: str) -> None:
    with pytest.raises(InputFileError, match=f"{name} {problem}"):
        read(name, content)


def test_lines_of_messages_are_no_array() -> None:
    content = b'[{"role": "user", "content": "a"}]\n[{"role": "user", "content": "b"}]\n'
    assert b"".join(read("a.jsonl", content)) == content


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("part-0.parquet", {}),
        ("dt=2026-01-01/hour=03/part-0.parquet", {"dt": "2026-01-01", "hour": "03"}),
        ("a/dt=x%2Fy=z/b=__HIVE_DEFAULT_PARTITION__/c=d.csv", {"dt": "x/y=z", "b": None}),
    ],
)
def test_directories_name_partition_columns(name: str, columns: dict[str, str | None]) -> None:
    assert partition_columns(name) == columns


def test_a_header_may_follow_blank_lines() -> None:
    assert read("a.csv", b"\n\r\nid;q\n1;a\n") == [{"id": "1", "q": "a"}]
    assert read("a.csv", b'"i\nd";q\n1;a\n') == [{"i\nd": "1", "q": "a"}]


def test_a_blank_line_in_a_single_column_is_an_empty_cell() -> None:
    assert read("a.csv", b"q\na\n\nb\n\n\n") == [{"q": "a"}, {"q": None}, {"q": "b"}]


def test_the_name_of_a_tsv_says_its_delimiter() -> None:
    assert read("a.tsv", b"q,r\n1,2\n") == [{"q,r": "1,2"}]


def test_a_damaged_parquet_file_is_named() -> None:
    content = bytearray(parquet_of([{"q": "a" * 100}] * 10, compression="none"))
    content[4:60] = b"x" * 56
    with pytest.raises(InputFileError, match=r"a\.parquet cannot be read as Parquet"):
        read("a.parquet", bytes(content))
