"""Result rows as a table: in memory by Arrow record batches, or written as Parquet or CSV."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import msgspec

from siliconflow_provider.job_directory import RESULTS_OF_FORMAT
from siliconflow_provider.jsonl import WRITTEN_BYTES
from siliconflow_provider.outputs.answers import ResultRow
from siliconflow_provider.outputs.columns import Column, ColumnPlan, OutputColumns, text_of

if TYPE_CHECKING:
    import pyarrow

# A block of rows is decoded at once, and a row group of Parquet is written at once.
BLOCK_ROWS, BLOCK_BYTES = 1_000, 1 << 22
GROUP_ROWS, GROUP_BYTES = 100_000, 1 << 25
# The key of a column's metadata with the field of the row that it has.
SOURCE = b"siliconflow"
_SPECIAL = frozenset('",\r\n')
_decode = msgspec.json.Decoder(ResultRow).decode


@dataclass(frozen=True)
class OutputFormat:
    """The form in which a job's results are published.

    :param name: `jsonl`, `parquet` or `csv`
    :param columns: the types of `output`; None if the job has no output type
    """

    name: str = "jsonl"
    columns: OutputColumns | None = None

    @property
    def results(self) -> str:
        """The name of the file with the results."""
        return RESULTS_OF_FORMAT[self.name]


JSON_LINES = OutputFormat()


class ResultTable:
    """The rows of a job's results as a table. They are read twice: for the types of the columns, and for the values.

    :param lines: opens the rows as JSON lines
    :param input_schema: the Arrow schema of the input, serialized; None to infer the types of its columns
    :param output: the types of `output`; None if the job has no output type
    """

    def __init__(
        self, lines: Callable[[], Iterable[bytes]], input_schema: bytes | None, output: OutputColumns | None
    ) -> None:
        self._lines = lines
        self._input_schema = input_schema
        self._output = output

    def write(self, output_format: str, file: IO[bytes]) -> list[Column]:
        """Write the table as `parquet` or `csv`, and return its columns."""
        return self._write_parquet(file) if output_format == "parquet" else self._write_csv(file)

    def batches(self, status: Collection[str] | None = None) -> pyarrow.RecordBatchReader:
        """Return the table as a stream of record batches.

        :param status: return only the rows with one of these statuses
        """
        import pyarrow

        columns = self._arrow_columns()
        return pyarrow.RecordBatchReader.from_batches(_schema_of(columns), self._batches_of(columns, status))

    def _write_parquet(self, file: IO[bytes]) -> list[Column]:
        import pyarrow
        from pyarrow import parquet

        columns = self._arrow_columns()
        group: list[pyarrow.RecordBatch] = []
        rows = size = 0
        with parquet.ParquetWriter(_Sink(file), _schema_of(columns)) as writer:
            for batch in self._batches_of(columns):
                group.append(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
                if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                    writer.write_table(pyarrow.Table.from_batches(group), rows)
                    group, rows, size = [], 0, 0
            if group:
                writer.write_table(pyarrow.Table.from_batches(group), rows)
        return [column.column for column in columns]

    def _write_csv(self, file: IO[bytes]) -> list[Column]:
        plan = ColumnPlan(output=self._output)
        for block in self._blocks():
            for row in block:
                plan.add(row)
        columns = plan.columns()
        written = bytearray(_csv_line(column.name for column in columns))
        for block in self._blocks():
            for row in block:
                written += _csv_line(text_of(column.value_in(row)) for column in columns)
                if len(written) >= WRITTEN_BYTES:
                    file.write(bytes(written))
                    written.clear()
        file.write(bytes(written))
        return columns

    def _arrow_columns(self) -> list[_ArrowColumn]:
        import pyarrow

        from siliconflow_provider.outputs.arrow_types import restored_type

        known = [] if self._input_schema is None else pyarrow.ipc.read_schema(pyarrow.py_buffer(self._input_schema))
        plan = ColumnPlan([field.name for field in known], self._output)
        types = {field.name: wanted for field in known if (wanted := restored_type(field.type)) is not None}
        for block in self._blocks():
            for row in block:
                plan.add(row)
            # A source of several files may have other values in the column of one of them.
            types = {name: wanted for name, wanted in types.items() if _holds(wanted, name, block)}
        restored = {f"input.{name}": wanted for name, wanted in types.items()}
        return [_ArrowColumn(column, restored.get(column.source)) for column in plan.columns()]

    def _batches_of(
        self, columns: list[_ArrowColumn], status: Collection[str] | None = None
    ) -> Iterator[pyarrow.RecordBatch]:
        import pyarrow

        schema = _schema_of(columns)
        for block in self._blocks():
            rows = block if status is None else [row for row in block if row.status in status]
            if rows:
                yield pyarrow.RecordBatch.from_arrays([column.array(rows) for column in columns], schema=schema)

    def _blocks(self) -> Iterator[list[ResultRow]]:
        block: list[ResultRow] = []
        size = 0
        for line in self._lines():
            block.append(_decode(line))
            size += len(line)
            if len(block) >= BLOCK_ROWS or size >= BLOCK_BYTES:
                yield block
                block, size = [], 0
        if block:
            yield block


def batches_of_parquet(file: IO[bytes], status: Collection[str] | None = None) -> pyarrow.RecordBatchReader:
    """Return the batches of a Parquet file with results, and close the file after them.

    :param status: return only the rows with one of these statuses
    """
    import pyarrow
    from pyarrow import compute, parquet

    table = parquet.ParquetFile(file)
    schema = table.schema_arrow

    def batches() -> Iterator[pyarrow.RecordBatch]:
        with file:
            for batch in table.iter_batches(batch_size=BLOCK_ROWS):
                if status is not None:
                    statuses = batch.column(_position_of("status", schema))
                    batch = batch.filter(compute.is_in(statuses, pyarrow.array(status, pyarrow.string())))
                yield batch

    return pyarrow.RecordBatchReader.from_batches(schema, batches())


def _position_of(source: str, schema: pyarrow.Schema) -> int:
    """Return the position of the column with a field of the row, which an input column may have renamed."""
    return [(field.metadata or {}).get(SOURCE) for field in schema].index(source.encode())


@dataclass(frozen=True)
class _ArrowColumn:
    """A column with its Arrow type.

    :param restored: the type of the input column that it comes from; None if its type is inferred
    """

    column: Column
    restored: pyarrow.DataType | None

    @property
    def field(self) -> pyarrow.Field:
        import pyarrow

        plain = {"boolean": pyarrow.bool_(), "integer": pyarrow.int64(), "number": pyarrow.float64()}
        wanted = self.restored or plain.get(self.column.type, pyarrow.string())
        return pyarrow.field(self.column.name, wanted, metadata={SOURCE: self.column.source})

    def array(self, rows: list[ResultRow]) -> pyarrow.Array:
        import pyarrow

        values = map(self.column.value_in, rows)
        if self.restored is not None:
            from siliconflow_provider.outputs.arrow_types import restored_array

            return restored_array(values, self.restored)
        texts = map(text_of, values) if self.column.type == "string" else values
        return pyarrow.array(list(texts), self.field.type)


def _schema_of(columns: Iterable[_ArrowColumn]) -> pyarrow.Schema:
    import pyarrow

    return pyarrow.schema([column.field for column in columns])


def _holds(wanted: pyarrow.DataType, name: str, rows: Iterable[ResultRow]) -> bool:
    """Return True if an input column of these rows can be restored to a type."""
    import pyarrow

    from siliconflow_provider.outputs.arrow_types import restored_array

    try:
        restored_array([row.input.get(name) if isinstance(row.input, dict) else None for row in rows], wanted)
    except (pyarrow.ArrowException, TypeError, ValueError, ArithmeticError, LookupError):
        return False
    return True


def _csv_line(cells: Iterable[str | None]) -> bytes:
    """Return a line as in RFC 4180. A missing value is empty; an empty text is `""`, so that the two differ."""
    return (",".join(map(_csv_cell, cells)) + "\r\n").encode()


def _csv_cell(text: str | None) -> str:
    if text is None:
        return ""
    if text and _SPECIAL.isdisjoint(text):
        return text
    return '"{}"'.format(text.replace('"', '""'))


class _Sink(io.RawIOBase):
    """A file to which pyarrow writes, and which it does not close."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self._file.write(bytes(block))
        return len(block)
