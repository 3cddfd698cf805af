"""Reuse answers of earlier jobs for requests with an equal body, so that these are not billed twice."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import IO

import msgspec

from siliconflow_provider.inputs import FilePart, Part, PartWriter, lines_at, position_of_line
from siliconflow_provider.jobs.request_index import Request, RequestIndex, body_digest, decode_request
from siliconflow_provider.jsonl import BlockWriter, line_blocks, read_chunks
from siliconflow_provider.outputs import LARGEST_COUNT, REJECTED_STATUS, ResultRow, Validate

# The round of a row whose answer comes from the replaced job.
KEPT_ROUND = 0


_decode_row = msgspec.json.Decoder(ResultRow).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class EarlierAnswers:
    """The local files of an earlier job.

    :param requests: the file of its request lines
    :param rows: the file of its result rows, one for each request or rejected item, in the same order
    """

    requests: Path
    rows: Path


class ReusedRows:
    """Write a row for each request that has an answer of an earlier job.

    :param index: the requests of the new job
    :param file: an empty local file for the rows
    :param validate: may change a row from succeeded to invalid; that row is not reused
    :param rejected: the positions of the new job's items that have no request line
    """

    def __init__(
        self, index: RequestIndex, file: IO[bytes], validate: Validate | None, rejected: Sequence[int] = ()
    ) -> None:
        self._index = index
        self._file = file
        self._writer = BlockWriter(file)
        self._validate = validate
        self._rejected = rejected
        self._offsets = array("Q", bytes(8 * len(index)))
        self._lengths = array("I", bytes(4 * len(index)))
        self.count = 0
        self.size = 0

    @property
    def is_complete(self) -> bool:
        """True if each request has a row."""
        return self.count == len(self._index)

    def add(self, earlier: EarlierAnswers, *, kept_round: int | None = None, only_new: bool = False) -> int:
        """Reuse the answers of an earlier job, each once. Return the number of its good answers.

        :param kept_round: the round of the rows; None keeps that of the earlier row
        :param only_new: True to leave out as many answers to a body as are reused already: they may be the same ones
        :raises msgspec.DecodeError: if a line of the files is not readable
        """
        answers = 0
        reused = self._index.count_answered() if only_new else None
        with earlier.requests.open("rb") as lines, earlier.rows.open("rb") as rows:
            for row in map(_decode_row, rows):
                # A rejected item has no request line.
                line = b"" if row.status == REJECTED_STATUS else next(lines, b"")
                if row.status == "succeeded" and line:
                    answers += 1
                    self._add_answer(decode_request(line), row, kept_round, reused)
        return answers

    def _add_answer(self, request: Request, row: ResultRow, kept_round: int | None, reused: array[int] | None) -> None:
        is_answer = request.custom_id == row.custom_id and _has_valid_counts(row)
        position = self._index.next_unanswered(body_digest(request)) if is_answer else None
        if position is None:
            return
        if reused is not None and reused[self._index.representative(position)]:
            reused[self._index.representative(position)] -= 1
            return
        row.output = msgspec.UNSET
        if self._validate is not None:
            self._validate(row)
        if row.status == "succeeded":
            row.round = row.round if kept_round is None else kept_round
            self._write(position, row)

    def share(self, start: int = 0) -> None:
        """Give answers also to the unanswered requests with an equal body.

        :param start: share only the answers after the first so many bytes
        """
        self._writer.flush()
        self._file.flush()
        for position in self._index.unanswered():
            source = self._index.representative(position)
            if self._index.is_answered(source) and self._offsets[source] >= start:
                row = os.pread(self._file.fileno(), self._lengths[source], self._offsets[source])
                self._write(position, _decode_row(row))

    def finish(self) -> None:
        """Write the buffered rows."""
        self._writer.flush()

    def _write(self, position: int, row: ResultRow) -> None:
        row.index, row.input = position_of_line(position, self._rejected), None
        row.custom_id = self._index.custom_id(position)
        row.mark_reused()
        line = _encode(row) + b"\n"
        self._writer.write(line)
        self._offsets[position], self._lengths[position] = self.size, len(line)
        self.size += len(line)
        self.count += 1
        self._index.set_answered(position)


def _has_valid_counts(row: ResultRow) -> bool:
    """Return False if a number could not have come from `parse_answer`: not every table could hold it."""
    counts = (row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.round)
    return all(count is None or 0 <= count < LARGEST_COUNT for count in counts)


def write_unanswered(
    requests: Path, parts: Sequence[Part], sent: Sequence[array[int]], stays: Sequence[bool], file: IO[bytes]
) -> tuple[list[Part], list[int]]:
    """Write the requests that a job sends; return their parts, and for each line its number among all requests.

    :param requests: the file of all requests, which consists of these parts
    :param sent: the lines of each part's requests that are sent
    :param stays: for each part, True if it stays as it is, because a batch runs for it
    """
    writer = PartWriter(file)
    for part in compress(parts, stays):
        with FilePart(requests, part) as content:
            for block in line_blocks(read_chunks(content)):
                writer.write(block, block.count(b"\n"))
        writer.cut()
    others = [positions for positions, stay in zip(sent, stays, strict=True) if not stay]
    for line in lines_at(requests, chain.from_iterable(others)):
        writer.write(line)
    return writer.finish(), [*chain(*compress(sent, stays), *others)]
