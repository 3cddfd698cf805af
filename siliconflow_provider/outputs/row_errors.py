"""Clean the errors of rows and batches: remove secrets, escape line ends, cut long messages.

The full text of an error that is cut in a row or the manifest is in a separate file, which the manifest names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from os import SEEK_END
from pathlib import Path
from typing import IO

import msgspec

from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.api.service_texts import LONGEST_ERROR, cut, first_errors, printable, word
from siliconflow_provider.outputs.answers import AnswerError, ResultRow

_NO_ROW = -1


class FullError(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of that file: an error of a batch, or of a request if it has a `custom_id`.

    :param row_offset: the offset of the request's row, to tell its error from those of earlier rows of the request
    """

    batch_id: str | None
    round: int | None = None
    index: int | None = None
    custom_id: str | None = None
    code: str | None = None
    message: str
    row_offset: int = _NO_ROW


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(FullError)


class RowErrors:
    """Clean and cut the errors of rows.

    :param file: receives the full text of cut errors; None to drop it
    :param without_secrets: removes the key and the queries of URLs from a text
    """

    def __init__(self, file: IO[bytes] | None = None, without_secrets: Callable[[str], str] = without_queries) -> None:
        self._file = file
        self._without_secrets = without_secrets

    def clean_and_cut(self, row: ResultRow, row_offset: int = _NO_ROW) -> None:
        """Replace the error of a row by its cleaned and cut form.

        :param row_offset: the offset at which the row will be written
        """
        if row.error is None:
            return
        code = None if row.error.code is None else word(self._without_secrets(row.error.code))
        message = printable(self._without_secrets(row.error.message))
        row.error = AnswerError(code, cut(message, LONGEST_ERROR), row.error.status)
        if self._file is not None and row.error.message != message:
            full = FullError(
                batch_id=row.batch_id,
                round=row.round,
                index=row.index,
                custom_id=row.custom_id,
                code=code,
                message=message,
                row_offset=row_offset,
            )
            # The file may have been read meanwhile.
            self._file.seek(0, SEEK_END)
            self._file.write(_encode(full) + b"\n")

    def full_errors(self) -> Iterator[FullError]:
        """Yield the full text of each error that was cut."""
        if self._file is not None:
            self._file.seek(0)
            yield from map(_decoder.decode, self._file)


def full_errors_of_batch(batch: Batch, round_number: int | None = None) -> Iterator[FullError]:
    """Yield the errors of a batch if the manifest cuts them."""
    if first_errors(batch.errors) != batch.errors:
        for message in batch.errors:
            yield FullError(batch_id=batch.id, round=round_number, message=message)


def read_full_errors(path: Path) -> Iterator[FullError]:
    """Yield the errors in a file that `write_full_errors` wrote."""
    with path.open("rb") as lines:
        for line in lines:
            # A damaged file must not prevent the results.
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield _decoder.decode(line)


def write_full_errors(file: IO[bytes], errors: Iterable[FullError]) -> int:
    """Write a line for each error, and return their number."""
    count = 0
    for error in errors:
        error.row_offset = _NO_ROW
        file.write(_encode(error) + b"\n")
        count += 1
    return count
