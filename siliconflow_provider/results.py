"""Read the results of a job or a batch: as rows, or as a table of Arrow or pandas."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    import pyarrow
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from siliconflow_provider.outputs import ResultRow

    Results = Mapping[str, Any] | str | os.PathLike[str]
    Status = str | Collection[str] | None

__all__ = ["ResultRow", "read_results", "to_arrow", "to_batches", "to_pandas"]

_SUFFIXES = (".jsonl", ".parquet", ".csv")


def read_results(summary_or_path: Results, *, status: Status = None) -> Iterator[ResultRow]:
    """Yield the rows of a job's results, streaming.

    Beside `results.parquet` and `results.csv`, the job keeps the same rows as JSON lines. Those are read.

    :param summary_or_path: the return value of an operator, or the path of the results or of their directory
    :param status: yield only rows with this status or one of these, such as `"succeeded"`
    :raises ValueError: if a status does not exist
    """
    import msgspec

    from siliconflow_provider.outputs import ResultRow

    wanted = _statuses(status)
    decode = msgspec.json.Decoder(ResultRow).decode
    for line in _rows_of(_results_path(summary_or_path)):
        row = decode(line)
        if wanted is None or row.status in wanted:
            yield row


def to_batches(summary_or_path: Results, *, status: Status = None) -> pyarrow.RecordBatchReader:
    """Return a job's results as a stream of Arrow record batches, which needs little memory.

    The columns are those of `output_format="parquet"`, whatever the format of the results. Needs pyarrow, which the
    extra `arrow` installs.

    :param summary_or_path: the return value of an operator, or the path of the results or of their directory
    :param status: return only rows with this status or one of these, such as `"succeeded"`
    :raises ValueError: if a status does not exist
    """
    from siliconflow_provider.outputs import ResultTable, batches_of_parquet
    from siliconflow_provider.storage import open_for_reading

    if find_spec("pyarrow") is None:
        raise ModuleNotFoundError("a table needs pyarrow: pip install 'airflow-provider-siliconflow[arrow]'")
    wanted = _statuses(status)
    path = _results_path(summary_or_path)
    if path.suffix == ".parquet":
        return batches_of_parquet(open_for_reading(path, "results"), wanted)
    input_schema, output = _known_columns(path)
    return ResultTable(partial(_rows_of, path), input_schema, output).batches(wanted)


def to_arrow(summary_or_path: Results, *, status: Status = None) -> pyarrow.Table:
    """Return a job's results as an Arrow table in memory; see `to_batches`."""
    return to_batches(summary_or_path, status=status).read_all()


def to_pandas(summary_or_path: Results, *, status: Status = None) -> pandas.DataFrame:
    """Return a job's results as a pandas DataFrame in memory; see `to_batches`.

    Integers and booleans have pandas' nullable types, so that numbers stay whole in columns with missing values.
    """
    import pandas
    import pyarrow

    nullable = {pyarrow.bool_(): pandas.BooleanDtype()}
    for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"):
        nullable[pyarrow.type_for_alias(name.lower())] = pandas.api.types.pandas_dtype(name)
    return to_arrow(summary_or_path, status=status).to_pandas(types_mapper=nullable.get)


def _statuses(status: Status) -> Collection[str] | None:
    from siliconflow_provider.outputs import STATUSES

    wanted = {status} if isinstance(status, str) else status
    # The first status is internal: the row is not known yet.
    unknown = set(wanted or ()) - set(STATUSES[1:])
    if unknown:
        raise ValueError(f"status {sorted(unknown)[0]!r} does not exist: there are {', '.join(STATUSES[1:])}")
    return wanted


def _results_path(summary_or_path: Results) -> ObjectStoragePath:
    """Return the path of a file with results; that of a directory is named by its manifest."""
    from siliconflow_provider.job_directory import RESULTS, RESULTS_OF_FORMAT
    from siliconflow_provider.storage import storage_path

    if isinstance(summary_or_path, Mapping):
        return storage_path(summary_or_path["results_path"], "results")
    path = storage_path(summary_or_path, "results")
    if path.suffix in _SUFFIXES:
        return path
    return path / RESULTS_OF_FORMAT.get(_manifest_in(path).get("output_format", "jsonl"), RESULTS)


def _rows_of(path: ObjectStoragePath) -> Iterator[bytes]:
    """Yield the rows as JSON lines that a file with results was written from."""
    from siliconflow_provider.api.redaction import without_credentials
    from siliconflow_provider.job_directory import RESULT_ROWS
    from siliconflow_provider.storage import MissingFileError

    if path.suffix == ".jsonl":
        yield from _lines(path)
        return
    rows = path.parent / RESULT_ROWS
    try:
        yield from _lines(rows)
    except MissingFileError:
        raise MissingFileError(
            f"{without_credentials(str(rows))} is missing: rows are read from it. Read {path.name} itself as a table"
        ) from None


def _lines(path: ObjectStoragePath) -> Iterator[bytes]:
    from siliconflow_provider.storage import open_for_reading

    with open_for_reading(path, "results") as lines:
        yield from lines


def _known_columns(path: ObjectStoragePath) -> tuple[bytes | None, Any]:
    """Return the schema of the input and the types of `output` that the manifest beside a file has."""
    import binascii

    columns = _manifest_in(path.parent).get("columns", {})
    encoded = columns.get("input")
    return None if encoded is None else binascii.a2b_base64(encoded), columns.get("output")


def _manifest_in(directory: ObjectStoragePath) -> dict[str, Any]:
    """Return the manifest in a directory; an empty one if there is none."""
    import msgspec

    from siliconflow_provider.job_directory import MANIFEST
    from siliconflow_provider.storage import MissingFileError

    try:
        return msgspec.json.decode(b"".join(_lines(directory / MANIFEST)), type=dict[str, Any])
    except MissingFileError:
        return {}


if not TYPE_CHECKING:  # A type checker would accept any name.

    def __getattr__(name: str) -> Any:
        """Import `ResultRow` at its first use: DAG files import this module."""
        if name != "ResultRow":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from siliconflow_provider.outputs import ResultRow

        return ResultRow
