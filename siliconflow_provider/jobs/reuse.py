"""Answers of earlier jobs, found by what was asked: an equal request need not be bought again."""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections.abc import Callable, Iterator
from itertools import chain, compress, islice
from pathlib import Path
from typing import IO

import msgspec

from siliconflow_provider.inputs import FilePart, Part, PartWriter, lines_at
from siliconflow_provider.jsonl import line_blocks, read_chunks
from siliconflow_provider.outputs import ResultRow, Validate

# Of rows whose answer a job has from another one.
KEPT_ROUND = 0


class _Request(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw


class _Row(msgspec.Struct):
    custom_id: str
    status: str


_request_decoder = msgspec.json.Decoder(_Request)
_row_decoder = msgspec.json.Decoder(_Row)
_result_decoder = msgspec.json.Decoder(ResultRow)


class EarlierAnswers:
    """The good answers of earlier jobs, each of which is given once.

    What finds them is in a temporary file of SQLite, so that their number costs no memory.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(
            "CREATE TABLE answers (body BLOB, number INTEGER, file INTEGER, offset INTEGER, length INTEGER, "
            "PRIMARY KEY (body, number)) WITHOUT ROWID"
        )
        self._files: list[IO[bytes]] = []
        self.count = 0

    def close(self) -> None:
        """Close what was opened."""
        self._database.close()
        for file in self._files:
            file.close()

    def add(self, requests: Path, rows: Path) -> None:
        """Add the answers of a job.

        :param requests: a file of its request lines
        :param rows: a file of its result rows, one a request and in their order
        """
        before = self.count
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", self._entries(requests, rows))
        self._database.execute("COMMIT")
        if self.count > before:
            self._files.append(rows.open("rb"))

    def _entries(self, requests: Path, rows: Path) -> Iterator[tuple[bytes, int, int, int, int]]:
        offset = 0
        with requests.open("rb") as lines, rows.open("rb") as answers:
            for line, answer in zip(lines, answers, strict=False):
                row = _row_decoder.decode(answer)
                if row.status == "succeeded":
                    request = _request_decoder.decode(line)
                    if request.custom_id == row.custom_id:
                        yield _digest(request), self.count, len(self._files), offset, len(answer)
                        self.count += 1
                offset += len(answer)

    def take(self, line: bytes) -> ResultRow | None:
        """Return an answer to an equal request, with that request's custom id; None when there is none left.

        Requests are equal when the bytes of their bodies are. Equal ones get different answers, as when they are sent.

        :param line: a request line
        """
        request = _request_decoder.decode(line)
        digest = _digest(request)
        found = self._database.execute(
            "SELECT number, file, offset, length FROM answers WHERE body = ? ORDER BY number LIMIT 1", (digest,)
        ).fetchone()
        if found is None:
            return None
        number, file, offset, length = found
        self._database.execute("DELETE FROM answers WHERE body = ? AND number = ?", (digest, number))
        self._files[file].seek(offset)
        row = _result_decoder.decode(self._files[file].read(length))
        row.custom_id = request.custom_id
        return row


def _digest(request: _Request) -> bytes:
    return hashlib.sha256(request.body).digest()


def reuse_answers(
    earlier: EarlierAnswers, requests: Path, parts: list[Part], kept: IO[bytes], validate: Validate | None
) -> tuple[int, list[array[int]]]:
    """Write the row of each request that is answered already; return how many, and the positions of each part's rest.

    :param requests: a file of all requests, which is cut into these parts
    :param kept: the rows are written to it
    :param validate: may turn a row that succeeded into an invalid one, which is not kept
    """
    count, rests = 0, []
    with requests.open("rb") as lines:
        for part in parts:
            rest = array("q")
            for index, line in enumerate(islice(lines, part.lines), start=part.first):
                row = earlier.take(line)
                if row is None or not _is_good(row, validate):
                    rest.append(index)
                    continue
                row.index, row.round, row.input = index, KEPT_ROUND, None
                kept.write(msgspec.json.encode(row) + b"\n")
                count += 1
            rests.append(rest)
    return count, rests


def _is_good(row: ResultRow, validate: Validate | None) -> bool:
    row.output = msgspec.UNSET
    if validate is not None:
        validate(row)
    return row.status == "succeeded"


def write_unanswered(
    requests: Path,
    parts: list[Part],
    rests: list[array[int]],
    file: IO[bytes],
    stays: Callable[[Part], bool],
) -> tuple[list[Part], list[int]]:
    """Write the requests that are not answered; return their parts, and the position of each line.

    :param requests: a file of all requests, which is cut into these parts
    :param stays: whether a part of which nothing is answered stays one, as a batch runs for it
    """
    writer = PartWriter(file)
    is_whole = [len(rest) == part.lines and stays(part) for part, rest in zip(parts, rests, strict=True)]
    for part in compress(parts, is_whole):
        with FilePart(requests, part) as content:
            for block in line_blocks(read_chunks(content)):
                writer.write(block, block.count(b"\n"))
        writer.cut()
    others = [rest for rest, whole in zip(rests, is_whole, strict=True) if not whole]
    for line in lines_at(requests, chain.from_iterable(others)):
        writer.write(line)
    return writer.finish(), [*chain(*compress(rests, is_whole), *others)]
