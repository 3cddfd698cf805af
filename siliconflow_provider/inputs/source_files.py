"""Input files, read as items by the format that their names say."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from typing import IO, Any
from urllib.parse import unquote

import msgspec

from siliconflow_provider.inputs.problems import InvalidRequestFileError, UnreadableItem
from siliconflow_provider.inputs.schemas import SourceSchema
from siliconflow_provider.inputs.tables import check_columns, rows_of_batches
from siliconflow_provider.jsonl import LONGEST_LINE, line_blocks, split_lines
from siliconflow_provider.wording import counted

Open = Callable[[], AbstractContextManager[IO[bytes]]]
ROW_BATCH = 1_000
DELIMITERS = ",;\t|"
# The first bytes of files of other formats.
_SIGNATURES = (
    (b"PAR1", "a Parquet file", ".parquet"),
    (b"\x1f\x8b", "compressed by gzip", ".gz"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", None),
    (b"Obj\x01", "an Avro file", None),
    (b"ORC", "an ORC file", None),
    (b"\xff\xfe", "text in UTF-16", None),
    (b"\xfe\xff", "text in UTF-16", None),
    (b"SQLite format 3\0", "an SQLite database", None),
)
# The directory of the rows without a value for the column.
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_FORMATS = re.compile(r"\.(jsonl|ndjson|csv|tsv|parquet)(\.gz)?$", re.IGNORECASE)


class InputFileError(InvalidRequestFileError):
    """An input file that is not in the format that its name says, or cannot be read in it. Nothing was submitted."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}; nothing was submitted")


def has_known_format(name: str) -> bool:
    """Return False if a name ends in something that is no format of an input; a name may have no ending."""
    return _FORMATS.search(name) is not None or "." not in name.rpartition("/")[2]


def format_of(name: str) -> str:
    """Return the format that a file's name says: `csv`, `parquet`, or `jsonl` for every other name."""
    found = _FORMATS.search(name)
    if found is None or found[1].lower() in ("jsonl", "ndjson"):
        return "jsonl"
    return {"tsv": "csv"}.get(found[1].lower(), found[1].lower())


def partition_columns(name: str) -> dict[str, str | None]:
    """Return the columns that a file's directories name, as Hive and Spark write them: `dt=2026-01-01/part-0.parquet`.

    :param name: of the file, relative to the input directory
    """
    pairs = (part.split("=", 1) for part in name.split("/")[:-1] if "=" in part)
    return {unquote(column): None if value == _NULL_PARTITION else unquote(value) for column, value in pairs}


def items_of_file(
    name: str,
    pieces: Callable[[], Iterator[bytes]],
    open_file: Open,
    partition: Mapping[str, str | None] | None = None,
) -> Iterator[Any]:
    """Yield the items of a file: blocks of JSON lines as bytes, or rows as mappings, after their schema if it has one.

    :param name: of the file, for its format and for messages
    :param pieces: yields the file's bytes, unpacked where its name ends in `.gz`
    :param open_file: opens the file itself, for formats that are not read from their beginning
    :param partition: columns that are added to each row of a CSV or Parquet file, unless it has them
    :raises InputFileError: when it has another format
    """
    form = format_of(name)
    rows: Iterator[Any]
    if form == "parquet":
        rows = _rows_of_parquet(name, open_file)
    else:
        checked = _checked(name, pieces(), form)
        if form == "jsonl":
            return _blocks_of_jsonl(name, checked)
        rows = _rows_of_csv(name, checked)
    if not partition:
        return rows
    return ({**partition, **row} if isinstance(row, dict) else row for row in rows)


def _checked(name: str, pieces: Iterator[bytes], form: str) -> Iterator[bytes]:
    """Yield the bytes of a text file.

    :raises InputFileError: when they begin like those of another format
    """
    first = next(pieces, b"")
    for signature, what, ending in _SIGNATURES:
        if first.startswith(signature):
            remedy = f"rename it to end in {ending}" if ending else f"convert it to {form}"
            raise InputFileError(name, f"is {what}, not {form}: {remedy}")
    yield first
    yield from pieces


def _blocks_of_jsonl(name: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    is_first = True
    for block in line_blocks(pieces, LONGEST_LINE):
        if is_first:
            block = block.removeprefix(BOM_UTF8)
        if is_first and block.strip():
            _check_no_array(name, block)
            is_first = False
        yield block


def _check_no_array(name: str, block: bytes) -> None:
    """Raise InputFileError if a file is one JSON array; a line that is a list of messages is an item."""
    start = block.lstrip()
    if not start.startswith(b"["):
        return
    line = split_lines(start)[0].strip()
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if not _are_messages(value):
        raise InputFileError(
            name, "is a JSON array, and JSON lines are wanted, one object a line: convert it, as by `jq -c '.[]'`"
        )


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) and "role" in each for each in value)


def _rows_of_csv(name: str, pieces: Iterator[bytes]) -> Iterator[dict[str, str | None] | UnreadableItem]:
    """Yield the rows of a CSV file. All values stay texts; an empty cell is None."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    text = io.TextIOWrapper(io.BufferedReader(_Pieces(pieces)), encoding="utf-8-sig", newline="")
    number = 1
    try:
        head = _head_of(text)
        delimiter = _delimiter_of(name, "".join(head))
        reader = csv.reader(chain(head, text), strict=True, delimiter=delimiter)
        header = next(filter(None, reader), None)
        if header is None:
            return
        check_columns(header, name)
        blank = 0
        for cells in reader:
            number = reader.line_num
            if not cells:
                blank += 1
                continue
            # In a single column, a blank line before another row is an empty cell.
            for _ in range(blank if len(header) == 1 else 0):
                yield {header[0]: None}
            blank = 0
            if len(cells) != len(header):
                values, columns = counted(len(cells), "value"), counted(len(header), "column")
                yield UnreadableItem(
                    InputFileError(name, f"has {values} on line {number:,}, and {columns}: fix that line"),
                    f"line {number:,} has {values}, and the header has {columns}",
                )
                continue
            yield {column: cell or None for column, cell in zip(header, cells, strict=True)}
    except UnicodeDecodeError as error:
        raise InputFileError(name, f"is not UTF-8 after line {number:,} ({error.reason}): convert it") from None
    except csv.Error as error:
        raise InputFileError(name, f"is not CSV after line {number:,} ({error}): fix it") from None


def _head_of(text: IO[str]) -> list[str]:
    """Read the lines of the header: it may come after blank lines, and its quotes may have line ends."""
    lines, size, quotes = [], 0, 0
    while line := text.readline():
        lines.append(line)
        size += len(line)
        quotes += line.count('"')
        if size > LONGEST_LINE or (quotes % 2 == 0 and line.strip("\r\n")):
            break
    return lines


def _delimiter_of(name: str, head: str) -> str:
    """Return the delimiter of a CSV file: the one that its header has most often outside of quotes."""
    if ".tsv" in name.lower():
        return "\t"
    unquoted = re.sub(r'"[^"]*"', "", head)
    return max(DELIMITERS, key=unquoted.count)


def _rows_of_parquet(name: str, open_file: Open) -> Iterator[SourceSchema | dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise InputFileError(
            name, "is read by pyarrow, which is not installed: pip install 'airflow-provider-siliconflow[arrow]'"
        ) from None
    with open_file() as file:
        try:
            table = parquet.ParquetFile(file)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputFileError(name, f"is not a Parquet file ({error}): give it the name of its format") from None
        check_columns(table.schema_arrow.names, name)
        yield SourceSchema(table.schema_arrow)
        try:
            for group in range(table.num_row_groups):
                # A batch over two groups cannot be read if the file has dictionaries in structs or lists.
                yield from rows_of_batches(table.iter_batches(batch_size=ROW_BATCH, row_groups=[group]), name)
        except (pyarrow.ArrowException, OSError, OverflowError) as error:
            raise InputFileError(name, f"cannot be read as Parquet ({error}): check the file") from None


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
