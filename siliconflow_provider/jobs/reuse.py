"""Find answers of earlier jobs by request body, so that an equal request is not billed twice."""

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

# The round of a row whose answer comes from an earlier job.
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
    """The successful answers of earlier jobs; each is reused once.

    The index is a temporary SQLite file, so that many answers need no memory.
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
        """Close the files and the database."""
        self._database.close()
        for file in self._files:
            file.close()

    def add(self, requests: Path, rows: Path) -> None:
        """Add the answers of a job.

        :param requests: the file of its request lines
        :param rows: the file of its result rows, one for each request, in the same order
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

    def pop(self, line: bytes) -> ResultRow | None:
        """Return and remove an answer to an equal request, with this request's custom id; None if none is left.

        Requests are equal if the bytes of their bodies are. Equal requests get different answers, as if they were sent.

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
    earlier: EarlierAnswers, requests: Path, parts: list[Part], reused: IO[bytes], validate: Validate | None
) -> tuple[int, list[array[int]]]:
    """Write the row of each answered request; return their number, and the positions of each part's other requests.

    :param requests: the file of all requests, which consists of these parts
    :param reused: the rows are written to this file
    :param validate: may change a row from succeeded to invalid; that row is not reused
    """
    count, unanswered = 0, []
    with requests.open("rb") as lines:
        for part in parts:
            positions = array("q")
            for index, line in enumerate(islice(lines, part.lines), start=part.first):
                row = earlier.pop(line)
                if row is None or not _is_good(row, validate):
                    positions.append(index)
                    continue
                row.index, row.round, row.input = index, KEPT_ROUND, None
                reused.write(msgspec.json.encode(row) + b"\n")
                count += 1
            unanswered.append(positions)
    return count, unanswered


def _is_good(row: ResultRow, validate: Validate | None) -> bool:
    row.output = msgspec.UNSET
    if validate is not None:
        validate(row)
    return row.status == "succeeded"


def write_unanswered(
    requests: Path,
    parts: list[Part],
    unanswered: list[array[int]],
    file: IO[bytes],
    is_running: Callable[[Part], bool],
) -> tuple[list[Part], list[int]]:
    """Write the unanswered requests; return their parts, and the position of each line.

    :param requests: the file of all requests, which consists of these parts
    :param unanswered: the positions of each part's unanswered requests
    :param is_running: returns True if a batch runs for a part; without any answer, that part stays as it is
    """
    writer = PartWriter(file)
    stays = [len(rest) == part.lines and is_running(part) for part, rest in zip(parts, unanswered, strict=True)]
    for part in compress(parts, stays):
        with FilePart(requests, part) as content:
            for block in line_blocks(read_chunks(content)):
                writer.write(block, block.count(b"\n"))
        writer.cut()
    others = [rest for rest, stay in zip(unanswered, stays, strict=True) if not stay]
    for line in lines_at(requests, chain.from_iterable(others)):
        writer.write(line)
    return writer.finish(), [*chain(*compress(unanswered, stays), *others)]
