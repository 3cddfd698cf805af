"""Request lines on their way into a file, cut into parts that the service takes as a batch each."""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec

from siliconflow_provider.api.limits import MAXIMUM_FILE_BYTES, MAXIMUM_FILE_LINES
from siliconflow_provider.jsonl import BlockWriter, line_blocks, read_chunks, split_lines


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
        self._offset = 0
        self._first = 0
        self._begin()

    def write(self, block: bytes, lines: int = 1) -> None:
        """Add a block of so many lines, with their ends."""
        if self._lines + lines > self._most_lines or self._bytes + len(block) > self._most_bytes:
            if lines > 1:
                for line in split_lines(block):
                    self.write(line)
                return
            self._end()
        self._blocks.write(block)
        self._lines += lines
        self._bytes += len(block)

    def cut(self) -> None:
        """Begin a new part with the next line."""
        self._end()

    def finish(self) -> list[Part]:
        """Write what is left, and return the parts."""
        self._end()
        return self._parts

    def _begin(self) -> None:
        self._digest = hashlib.sha256()
        self._blocks = BlockWriter(self._file, self._digest.update)
        self._lines = 0
        self._bytes = 0

    def _end(self) -> None:
        if not self._lines:
            return
        self._blocks.flush()
        self._parts.append(Part(self._first, self._lines, self._offset, self._bytes, self._digest.hexdigest()))
        self._first += self._lines
        self._offset += self._bytes
        self._begin()


class RepeatedIds:
    """Tells whether ids repeat, at 8 bytes an id while they come and 40 when it is asked."""

    def __init__(self) -> None:
        # Floats sort faster than integers of 64 bits, and take less memory.
        self._hashes = array("d")

    def add(self, custom_ids: Iterable[str]) -> None:
        """Note ids."""
        self._hashes.extend(map(hash, custom_ids))

    def repeated_hashes(self) -> frozenset[float]:
        """Return the hashes that came more than once: those of all repeated ids, and of a few that are not."""
        ordered = sorted(self._hashes)
        if not any(map(operator.eq, ordered, islice(ordered, 1, None))):
            return frozenset()
        return frozenset(one for one, two in zip(ordered, islice(ordered, 1, None), strict=False) if one == two)


def repeated_ids(custom_ids: Iterable[str], hashes: frozenset[float]) -> Iterator[tuple[int, str, int]]:
    """Yield position, id and first position of each id that came before; positions count from 0."""
    firsts: dict[str, int] = {}
    for position, custom_id in enumerate(custom_ids):
        if float(hash(custom_id)) in hashes:
            first = firsts.setdefault(custom_id, position)
            if first != position:
                yield position, custom_id, first


class FilePart:
    """A part of a file as a file object of its own, for hashing and uploading."""

    def __init__(self, path: Path, part: Part) -> None:
        self._file = path.open("rb")
        self._start = part.offset
        self._size = part.bytes
        self._position = 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position, as a file does."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readable(self) -> bool:
        """Say that it can be read, for `hashlib.file_digest`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return with how much."""
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def read(self, size: int = -1) -> bytes:
        """Read on, to the part's end at most."""
        left = max(self._size - self._position, 0)
        self._file.seek(self._start + self._position)
        block = self._file.read(left if size < 0 else min(size, left))
        self._position += len(block)
        return block


def lines_at(path: Path, positions: Iterable[int]) -> Iterator[bytes]:
    """Yield the lines at these positions of a file, which ascend."""
    wanted = iter(positions)
    following = next(wanted, None)
    with path.open("rb") as lines:
        for position, line in enumerate(lines):
            if following is None:
                return
            if position == following:
                yield line
                following = next(wanted, None)


class _Identity(msgspec.Struct, gc=False):
    custom_id: str


_decoder = msgspec.json.Decoder(_Identity)


def ids_of_part(path: Path, part: Part) -> Iterator[str]:
    """Yield the custom id of each request of a part."""
    with FilePart(path, part) as content:
        for block in line_blocks(read_chunks(content)):
            yield from (each.custom_id for each in _decoder.decode_lines(block))
