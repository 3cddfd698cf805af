"""The errors of rows and batches, fit to be kept: without secrets, on one line, and not too long.

What is cut in rows and in the manifest is whole in a file of its own, which the manifest names.
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

_NOWHERE = -1


class FullError(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of that file: an error of a batch, or with `custom_id` one of a request.

    :param at: of a request, where its row is, by which it is told from what became of the request before
    """

    batch_id: str | None
    round: int | None = None
    index: int | None = None
    custom_id: str | None = None
    code: str | None = None
    message: str
    at: int = _NOWHERE


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(FullError)


class RowErrors:
    """Makes the errors of rows fit to be kept.

    :param file: is given what is cut, whole; None when that is wanted nowhere
    :param without_secrets: takes the key and the queries of URLs out of a text
    """

    def __init__(self, file: IO[bytes] | None = None, without_secrets: Callable[[str], str] = without_queries) -> None:
        self._file = file
        self._without_secrets = without_secrets

    def clean_and_cut(self, row: ResultRow, at: int = _NOWHERE) -> None:
        """Change the error of a row to what is kept of it.

        :param at: where the row is going to be
        """
        if row.error is None:
            return
        code = None if row.error.code is None else word(self._without_secrets(row.error.code))
        message = printable(self._without_secrets(row.error.message))
        row.error = AnswerError(code, cut(message, LONGEST_ERROR))
        if self._file is not None and row.error.message != message:
            whole = FullError(
                batch_id=row.batch_id,
                round=row.round,
                index=row.index,
                custom_id=row.custom_id,
                code=code,
                message=message,
                at=at,
            )
            # It may have been read meanwhile.
            self._file.seek(0, SEEK_END)
            self._file.write(_encode(whole) + b"\n")

    def whole(self) -> Iterator[FullError]:
        """Yield what was cut."""
        if self._file is not None:
            self._file.seek(0)
            yield from map(_decoder.decode, self._file)


def full_errors_of_batch(batch: Batch, round_number: int | None = None) -> Iterator[FullError]:
    """Yield the errors of a batch where the manifest has not all of them whole."""
    if first_errors(batch.errors) != batch.errors:
        for message in batch.errors:
            yield FullError(batch_id=batch.id, round=round_number, message=message)


def read_full_errors(path: Path) -> Iterator[FullError]:
    """Yield the lines of a file that `write_full_errors` has written."""
    with path.open("rb") as lines:
        for line in lines:
            # A file that was damaged must not hold up the answers.
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield _decoder.decode(line)


def write_full_errors(file: IO[bytes], errors: Iterable[FullError]) -> int:
    """Write a line for each error, and return their number."""
    count = 0
    for each in errors:
        each.at = _NOWHERE
        file.write(_encode(each) + b"\n")
        count += 1
    return count
