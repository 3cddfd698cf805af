"""Store the best row of each request: rows in a local file, and an index of a few bytes for each request."""

from __future__ import annotations

import operator
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import msgspec

from siliconflow_provider.api.limits import MAXIMUM_FILE_LINES
from siliconflow_provider.jsonl import WRITTEN_BYTES
from siliconflow_provider.outputs.answer_files import rows_of_file
from siliconflow_provider.outputs.answers import ResultRow
from siliconflow_provider.outputs.distinct_values import DistinctErrors, FinishReasons
from siliconflow_provider.outputs.row_errors import FullError, RowErrors
from siliconflow_provider.outputs.usage import Price, Usage, lacks_usage

# An item that cannot be sent.
REJECTED_STATUS = "rejected"
STATUSES = ("", "succeeded", "failed", "expired", "cancelled", "invalid", "missing", "unfinished", REJECTED_STATUS)
_STATUS_CODES = {name: code for code, name in enumerate(STATUSES)}
SUCCEEDED = STATUSES.index("succeeded")
# The rank of an answer, by the code of its status.
_RANKS = bytes({"succeeded": 2, "invalid": 1}.get(status, 0) for status in STATUSES)
_BEST = _RANKS[SUCCEEDED]
WINDOW_BYTES = 1 << 23
REPORTED_ERRORS = 10
_END = b"null}"
_encode_into = msgspec.json.Encoder().encode_into
_row_decoder = msgspec.json.Decoder(ResultRow)

Validate = Callable[[ResultRow], None]


class ResultStore:
    """Keep the best row of each request.

    :param requests: the number of requests
    :param rows: an empty local file for the rows
    :param validate: may change a row from succeeded to invalid
    :param errors: cleans and cuts the errors of rows
    :param price: gives each row its cost; None for rows without one
    :param has_reused: True if each row says whether it was reused
    :ivar status_codes: the status of each request, as a position in STATUSES
    """

    def __init__(
        self,
        requests: int,
        rows: IO[bytes],
        validate: Validate | None = None,
        errors: RowErrors | None = None,
        price: Price | None = None,
        has_reused: bool = False,
    ) -> None:
        self._file = rows
        self._block = bytearray()
        self._validate = validate
        self._row_errors = errors or RowErrors()
        self.price = price
        self._has_reused = has_reused
        self._end = self._start = 0
        self._offsets = array("q", [-1]) * requests
        self._lengths = array("I", [0]) * requests
        self.status_codes = bytearray(requests)
        self._is_earlier = bytearray(requests)
        self._is_copy = bytearray(requests)
        self._reasons = bytearray(requests)
        self._errors = array("H", [0]) * requests
        self._finish_reasons = FinishReasons()
        self._distinct_errors = DistinctErrors()
        self.usage: dict[str | None, Usage] = {}
        self.duplicates = 0
        self.unknown_requests = 0
        self.unreadable_lines = 0

    def __len__(self) -> int:
        return len(self.status_codes)

    def add_file(
        self, blocks: Iterable[bytes], indexes: dict[str, int], batch_id: str, round_number: int, name: str
    ) -> None:
        """Add an output or error file of a batch.

        :param blocks: the file's lines, in blocks
        :param indexes: the position of each request of the batch, by custom id
        :param name: the file's name in messages
        """
        for row in rows_of_file(blocks, batch_id, name, self):
            index = indexes.get(row.custom_id)
            if index is None:
                self.unknown_requests += 1
                continue
            row.round = round_number
            self._add(index, row)

    def begin_batch(self) -> None:
        """Start the files of another batch."""
        self._start = self._end

    def is_mentioned(self, index: int) -> bool:
        """Return True if a file of the current batch has a row for the request."""
        return self._offsets[index] >= self._start

    def add_earlier_row(self, row: ResultRow, *, is_billed: bool = True) -> None:
        """Add a row of an earlier attempt if the request has no row, or a worse one.

        :param is_billed: True if its tokens belong to this job
        """
        if row.index is None or row.index >= len(self.status_codes) or row.status == "unfinished":
            return
        if not self.has_row(row.index) or self._is_worse(row.index, row):
            is_billed = is_billed and row.reused is not True
            if is_billed:
                self._count(row)
            self._keep(row.index, row, is_billed=is_billed)
            self._is_earlier[row.index] = True

    def _is_worse(self, index: int, earlier: ResultRow) -> bool:
        """Return True if the row of a request is worse than an earlier one: it failed, or the result was lost since."""
        if earlier.status in ("succeeded", "missing"):
            return earlier.status == "succeeded" and not self.is_good(index)
        return STATUSES[self.status_codes[index]] == "missing" and self.row(index).batch_id == earlier.batch_id

    def copy_rows(self, duplicates: Iterable[tuple[int, int, str]]) -> None:
        """Give requests that are not sent the rows of equal requests. They are never resent.

        :param duplicates: position, position of the equal request, and custom_id of each request
        """
        self._flush()
        for index, sent, custom_id in duplicates:
            row = _row_decoder.decode(os.pread(self._file.fileno(), self._lengths[sent], self._offsets[sent]))
            row.custom_id = custom_id
            row.mark_reused()
            self._keep(index, row, is_billed=False)
            self._is_copy[index] = True

    def set_outcome(self, index: int, row: ResultRow) -> None:
        """Set the row of a request that no file mentions."""
        status = STATUSES[self.status_codes[index]]
        # An invalid answer keeps its text, unless its request is being resent.
        if status != "succeeded" and (status != "invalid" or row.status == "unfinished"):
            self._keep(index, row)

    def is_good(self, index: int) -> bool:
        """Return True if the request has a successful answer."""
        return self.status_codes[index] == SUCCEEDED

    def has_row(self, index: int) -> bool:
        """Return True if the request has a row."""
        return self._offsets[index] >= 0

    def retryable(self, *, is_cleared: bool) -> list[int]:
        """Return the positions of the requests that are worth resending.

        :param is_cleared: True if a person has cleared the task: cancelled and lost requests are resent too
        """
        retryable = {STATUSES.index(status) for status in ("failed", "expired", "invalid", "missing")}
        if is_cleared:
            retryable.add(STATUSES.index("cancelled"))
        lasting = self._distinct_errors.lasting(is_cleared=is_cleared)
        return [
            index
            for index, status in enumerate(self.status_codes)
            if status in retryable and self._errors[index] not in lasting and not self._is_copy[index]
        ]

    def write(self, results: IO[bytes], inputs: Iterator[bytes] | None) -> None:
        """Write one row for each request, in order.

        :param inputs: the input row of each request, as JSON; None if there are none
        """
        self._flush()
        block = bytearray()
        for row in self._in_order():
            if inputs is None:
                block += row
            else:
                block += row[: -len(_END)]
                block += next(inputs).strip()
                block += b"}"
            block += b"\n"
            if len(block) >= WRITTEN_BYTES:
                results.write(block)
                block.clear()
        results.write(block)

    def _in_order(self) -> Iterator[bytes]:
        """Yield the rows in the order of the requests."""
        for first in range(0, len(self._offsets), MAXIMUM_FILE_LINES):
            yield from self._rows_of_part(slice(first, first + MAXIMUM_FILE_LINES))

    def _rows_of_part(self, part: slice) -> Iterator[bytes]:
        """Yield the rows of a part; read them at once if they are close together in the file."""
        descriptor, offsets, lengths = self._file.fileno(), self._offsets[part], self._lengths[part]
        start, end = min(offsets), max(map(operator.add, offsets, lengths))
        if end - start <= WINDOW_BYTES:
            window = os.pread(descriptor, end - start, start)
            yield from (window[o - start : o - start + n] for o, n in zip(offsets, lengths, strict=True))
        else:
            yield from (os.pread(descriptor, n, o) for o, n in zip(offsets, lengths, strict=True))

    def full_errors(self, earlier: Iterable[FullError]) -> Iterator[FullError]:
        """Yield the full text of each error that is cut in a row.

        :param earlier: the full errors of an earlier attempt; those of its rows that are still used are yielded
        """
        yield from (error for error in self._row_errors.full_errors() if self._is_current(error))
        yield from (error for error in earlier if error.index is not None and self._is_earlier_error(error.index))

    def _is_current(self, error: FullError) -> bool:
        return error.index is not None and self._offsets[error.index] == error.row_offset

    def _is_earlier_error(self, index: int) -> bool:
        return index < len(self._is_earlier) and bool(self._is_earlier[index]) and not self.is_good(index)

    def counts(self) -> dict[str, int]:
        """Return the number of requests of each status."""
        found = Counter(self.status_codes)
        return {name: found[code] for code, name in enumerate(STATUSES) if found[code]}

    def finish_reasons(self) -> dict[str, int]:
        """Return the number of answers of each finish reason."""
        found = Counter(self._reasons)
        return {str(self._finish_reasons.names[code]): count for code, count in found.most_common() if code}

    def commonest_errors(self) -> list[dict[str, Any]]:
        """Return the ten most frequent errors: code, message, count, and the first request with this error."""
        found = Counter(self._errors)
        del found[0]
        ranked = found.most_common(REPORTED_ERRORS)
        return [
            {
                "code": error.code,
                "message": error.message,
                "count": count,
                "first_custom_id": self.row(self._errors.index(code)).custom_id,
            }
            for code, count in ranked
            if (error := self._distinct_errors.errors[code]) is not None
        ]

    def row(self, index: int) -> ResultRow:
        """Return the row of a request."""
        self._flush()
        return _row_decoder.decode(os.pread(self._file.fileno(), self._lengths[index], self._offsets[index]))

    def _add(self, index: int, row: ResultRow) -> None:
        if self._validate is not None and row.status == "succeeded":
            self._validate(row)
        known, new = _RANKS[self.status_codes[index]], _RANKS[_STATUS_CODES[row.status]]
        is_repeated = self._offsets[index] >= self._start
        is_better = new > known or (new == known < _BEST and not is_repeated)
        self.duplicates += is_repeated
        if is_better or not is_repeated:
            self._count(row)
        if is_better:
            self._keep(index, row)

    @property
    def total(self) -> Usage:
        """The tokens of all batches."""
        return Usage.sum(self.usage.values())

    def usage_of(self, batch_id: str) -> Usage:
        """Return the tokens of a batch's answers."""
        return self.usage.get(batch_id, Usage())

    def _count(self, row: ResultRow) -> None:
        usage = self.usage.get(row.batch_id)
        if usage is None:
            usage = self.usage[row.batch_id] = Usage()
        usage.prompt += row.prompt_tokens or 0
        usage.completion += row.completion_tokens or 0
        usage.cached += row.cached_tokens or 0
        usage.unknown += lacks_usage(row)

    def _keep(self, index: int, row: ResultRow, *, is_billed: bool = True) -> None:
        row.index, row.input = index, None
        if self.price is not None:
            row.cost = (None if lacks_usage(row) else self.price.amount(Usage.of_row(row))) if is_billed else 0.0
        row.reused = row.reused is True if self._has_reused else msgspec.UNSET
        self._row_errors.clean_and_cut(row, self._end)
        self._is_earlier[index] = False
        written = len(self._block)
        _encode_into(row, self._block, written)
        length = len(self._block) - written
        self._offsets[index], self._lengths[index] = self._end, length
        self._end += length
        if written >= WRITTEN_BYTES:
            self._write_block()
        self.status_codes[index] = _STATUS_CODES[row.status]
        self._reasons[index] = self._finish_reasons.code_of(row.finish_reason)
        self._errors[index] = self._distinct_errors.code_of(row.error)

    def _write_block(self) -> None:
        self._file.write(self._block)
        self._block.clear()

    def _flush(self) -> None:
        self._write_block()
        self._file.flush()
