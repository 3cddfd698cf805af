"""Request lines on their way into a file, cut into parts that the service takes as a batch each."""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO

import msgspec

from siliconflow_provider.api.limits import MAXIMUM_FILE_BYTES, MAXIMUM_FILE_LINES

BUFFER_BYTES = 1 << 20


class Part(msgspec.Struct, frozen=True):
    """A run of lines in a file of requests.

    :param first: position of its first line in the file, from 0
    :param offset: of its first byte
    :param sha256: hex digest of its bytes
    """

    first: int
    lines: int
    offset: int
    bytes: int
    sha256: str


class PartWriter:
    """Writes lines to a file and cuts them into parts, greedily and in order.

    :param most_lines: of a part
    :param most_bytes: of a part
    """

    def __init__(
        self, file: IO[bytes], *, most_lines: int = MAXIMUM_FILE_LINES, most_bytes: int = MAXIMUM_FILE_BYTES
    ) -> None:
        self._file = file
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._parts: list[Part] = []
        self._lines = 0
        self._offset = 0
        self._first = 0
        self._begin()

    def write(self, line: bytes) -> None:
        """Add a line, with its end."""
        size = len(line)
        if self._part_lines == self._most_lines or self._part_bytes + size > self._most_bytes:
            self._end()
        self._buffer.append(line)
        self._buffered += size
        self._part_lines += 1
        self._part_bytes += size
        if self._buffered >= BUFFER_BYTES:
            self._flush()

    def finish(self) -> list[Part]:
        """Write what is left, and return the parts."""
        self._end()
        return self._parts

    def _begin(self) -> None:
        self._digest = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._part_lines = 0
        self._part_bytes = 0

    def _flush(self) -> None:
        block = b"".join(self._buffer)
        self._digest.update(block)
        self._file.write(block)
        self._buffer.clear()
        self._buffered = 0

    def _end(self) -> None:
        if not self._part_lines:
            return
        self._flush()
        self._parts.append(
            Part(self._first, self._part_lines, self._offset, self._part_bytes, self._digest.hexdigest())
        )
        self._first += self._part_lines
        self._offset += self._part_bytes
        self._begin()


class RepeatedIds:
    """Tells whether ids repeat, at 8 bytes an id while they come and 48 when it is asked."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self.add_hash = self._hashes.append

    def add(self, custom_id: str) -> None:
        """Note an id."""
        self.add_hash(hash(custom_id))

    def repeated_hashes(self) -> frozenset[int]:
        """Return the hashes that came more than once: those of all repeated ids, and of a few that are not."""
        ordered = sorted(self._hashes)
        if not any(map(operator.eq, ordered, islice(ordered, 1, None))):
            return frozenset()
        return frozenset(one for one, two in zip(ordered, islice(ordered, 1, None), strict=False) if one == two)


def repeated_ids(custom_ids: Iterable[str], hashes: frozenset[int]) -> Iterator[tuple[int, str, int]]:
    """Yield position, id and first position of each id that came before; positions count from 0."""
    firsts: dict[str, int] = {}
    for position, custom_id in enumerate(custom_ids):
        if hash(custom_id) in hashes:
            first = firsts.setdefault(custom_id, position)
            if first != position:
                yield position, custom_id, first
