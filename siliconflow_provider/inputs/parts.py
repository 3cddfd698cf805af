"""Write request lines to a file, cut into parts: each fits one batch of the service."""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any, cast

import msgspec
from msgspec import Meta

from siliconflow_provider.api.limits import MAXIMUM_FILE_BYTES, MAXIMUM_FILE_LINES
from siliconflow_provider.jsonl import BlockWriter, line_blocks, read_chunks, split_lines

# Checked when a part is decoded: a file of a job may come from others.
_Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Part(msgspec.Struct, frozen=True):
    """Consecutive lines of a file of requests.

    :param first: position of its first line in the file, from 0
    :param lines: number of its lines
    :param offset: position of its first byte in the file
    :param bytes: number of its bytes
    :param sha256: hex digest of its bytes
    """

    first: _Count
    lines: _Count
    offset: _Count
    bytes: _Count
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class PartWriter:
    """Write lines to a file and cut them into parts. A part ends where the next line does not fit.

    :param most_lines: of a part
    :param most_bytes: of a part
    """

    def __init__(
        self, file: IO[bytes], *, most_lines: int = MAXIMUM_FILE_LINES, most_bytes: int = MAXIMUM_FILE_BYTES
    ) -> None:
        self._file = file
        self.most_lines = most_lines
        self.most_bytes = most_bytes
        self._parts: list[Part] = []
        self._offset = 0
        self._first = 0
        self._begin()

    def write(self, block: bytes, lines: int = 1) -> None:
        """Add lines.

        :param block: one or more lines with their ends
        :param lines: number of lines in the block
        """
        if self._lines + lines > self.most_lines or self._bytes + len(block) > self.most_bytes:
            if lines > 1:
                for line in split_lines(block):
                    self.write(line)
                return
            self._end()
        self._blocks.write(block)
        self._lines += lines
        self._bytes += len(block)

    def cut(self) -> None:
        """End the part: the next line begins a new one."""
        self._end()

    def finish(self) -> list[Part]:
        """Write the buffered lines, and return the parts."""
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


class DuplicateIds:
    """Find duplicate ids by their hashes: 8 bytes per id while they are added, 40 during the search."""

    def __init__(self) -> None:
        # Floats sort faster than integers of 64 bits, and take less memory.
        self._hashes = array("d")

    def add(self, custom_ids: Iterable[str]) -> None:
        """Add ids."""
        self._hashes.extend(map(hash, custom_ids))

    def duplicate_hashes(self) -> frozenset[float]:
        """Return the hashes that were added more than once. Different ids may have the same hash."""
        ordered = sorted(self._hashes)
        if not any(map(operator.eq, ordered, islice(ordered, 1, None))):
            return frozenset()
        return frozenset(one for one, two in zip(ordered, islice(ordered, 1, None), strict=False) if one == two)


def find_duplicates(custom_ids: Iterable[str], hashes: frozenset[float]) -> Iterator[tuple[int, str, int]]:
    """Yield position, id and first position of each id that is a duplicate of an earlier one.

    :param custom_ids: all ids in order; positions count from 0
    :param hashes: of the ids to compare, from `DuplicateIds`
    """
    firsts: dict[str, int] = {}
    for position, custom_id in enumerate(custom_ids):
        if float(hash(custom_id)) in hashes:
            first = firsts.setdefault(custom_id, position)
            if first != position:
                yield position, custom_id, first


def remove_lines(file: IO[bytes], removed: Iterable[int], **limits: int) -> list[Part]:
    """Remove lines from a file that a `PartWriter` has written, and return its new parts.

    :param file: is changed in place, which needs no disk
    :param removed: the numbers of the lines, from 0, in ascending order
    :param limits: of a part, as `PartWriter` takes them
    """
    writer = PartWriter(cast(IO[bytes], kept := _Cursor(file)), **limits)
    numbers = iter(removed)
    line, unwanted = 0, next(numbers, None)
    for block in line_blocks(read_chunks(cast(IO[bytes], _Cursor(file)))):
        lines = block.count(b"\n")
        if unwanted is None or unwanted >= line + lines:
            writer.write(block, lines)
            line += lines
            continue
        for content in split_lines(block):
            if line == unwanted:
                unwanted = next(numbers, None)
            else:
                writer.write(content)
            line += 1
    parts = writer.finish()
    file.truncate(kept.position)
    return parts


class _Cursor:
    """A position in a file that is read and written at several positions."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.position = 0

    def read(self, size: int) -> bytes:
        self._file.seek(self.position)
        block = self._file.read(size)
        self.position += len(block)
        return block

    def write(self, block: bytes) -> None:
        self._file.seek(self.position)
        self._file.write(block)
        self.position += len(block)


class FilePart:
    """Read a part of a file as if it were a file, for hashing and uploading."""

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
        """Set the position, and return it."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readable(self) -> bool:
        """Return True; `hashlib.file_digest` asks for it."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer, and return how many."""
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, up to the end of the part."""
        remaining = max(self._size - self._position, 0)
        self._file.seek(self._start + self._position)
        block = self._file.read(remaining if size < 0 else min(size, remaining))
        self._position += len(block)
        return block


def lines_at(path: Path, positions: Iterable[int]) -> Iterator[bytes]:
    """Yield the lines at these positions of a file. The positions have to ascend."""
    wanted = iter(positions)
    next_wanted = next(wanted, None)
    with path.open("rb") as lines:
        for position, line in enumerate(lines):
            if next_wanted is None:
                return
            if position == next_wanted:
                yield line
                next_wanted = next(wanted, None)


class _RequestId(msgspec.Struct, gc=False):
    custom_id: str


_decoder = msgspec.json.Decoder(_RequestId)


def ids_of_part(path: Path, part: Part) -> Iterator[str]:
    """Yield the custom_id of each request of a part."""
    with FilePart(path, part) as content:
        for block in line_blocks(read_chunks(content)):
            yield from (request.custom_id for request in _decoder.decode_lines(block))
