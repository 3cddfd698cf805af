"""Lines of JSON, read and written many at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from math import inf
from operator import itemgetter
from typing import IO, TypeVar

import msgspec

READ_BYTES = 1 << 17
WRITTEN_BYTES = 1 << 16
# How long a line may be is not documented, but that 5,000 requests have 1 GB at most. Twenty times what the largest
# context of a model has as text; a line that is decoded takes some six times its length.
LONGEST_LINE = 1 << 25
# A list or an object takes up to 200 bytes, and many of them take seconds. The answer with the most probabilities of
# tokens that a line has room for has 1,200,000.
MOST_BRACKETS = 2_000_000
TOO_LONG = f"more than {LONGEST_LINE:,} bytes or {MOST_BRACKETS:,} opening brackets"
KEPT_BYTES = 1 << 11
T = TypeVar("T")

_first, _last_but_one = itemgetter(0), itemgetter(-2)


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a file, some of it at a time."""
    while piece := file.read(READ_BYTES):
        yield piece


class LongLine(bytes):
    """The beginning of a line that was too long to be read, or nests too much, without its end."""


def line_blocks(pieces: Iterable[bytes], longest: float = inf) -> Iterator[bytes]:
    """Yield the same bytes in blocks of whole lines; only the last block may lack its end of line.

    :param longest: of a line that has more bytes than this, or nests too much, only a `LongLine` is kept, as a block by
        itself
    """
    begun: list[bytes] = []
    size = 0
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            first = piece.find(b"\n") + 1
            if size + first > longest:
                yield _long_line([*begun, piece[:first]])
                begun, piece, end = [], piece[first:], end - first
            if begun or end:
                yield from _readable(b"".join((*begun, piece[:end])), longest)
            begun, size = [], 0
        rest = piece[end:]
        size += len(rest)
        begun.append(rest)
        if size > longest:
            begun = [b"".join(begun)[:KEPT_BYTES]]
    if size > longest:
        yield _long_line(begun)
    elif any(begun):
        yield from _readable(b"".join(begun), longest)


def _readable(block: bytes, longest: float) -> Iterable[bytes]:
    """Return a block, or its lines where one of them may nest too much."""
    if longest == inf or _brackets(block) <= MOST_BRACKETS:
        return [block]
    lines = split_lines(block)
    return [_long_line([line]) if _brackets(line) > MOST_BRACKETS else line for line in lines]


def _brackets(text: bytes) -> int:
    # Of fewer bytes, it cannot have as many.
    return text.count(b"[") + text.count(b"{") if len(text) > MOST_BRACKETS else 0


def _long_line(begun: Iterable[bytes]) -> LongLine:
    return LongLine(b"".join(begun)[:KEPT_BYTES].rstrip(b"\r\n"))


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of a block, with their ends."""
    return [block] if isinstance(block, LongLine) else io.BytesIO(block).readlines()


def read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file that somebody else has written; of one that is too long, a `LongLine`."""
    for block in line_blocks(read_chunks(file), LONGEST_LINE):
        yield from split_lines(block)


def decode_lines(decoder: msgspec.json.Decoder[T], block: bytes) -> list[T] | None:
    """Return the value of each line, or None: then each line is to be looked at by itself.

    :param decoder: of objects
    """
    lines = split_lines(block)
    try:
        # Between `}` and `{` an end of line ends a value, so as many values as lines are one a line.
        if {*map(_first, lines)} != {ord("{")} or {*map(_last_but_one, lines)} != {ord("}")} or block[-1:] != b"\n":
            return None
        values = decoder.decode_lines(block)
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError, RecursionError):
        return None
    return values if len(values) == len(lines) else None


class BlockWriter:
    """Writes lines to a file a block at a time.

    :param see: is called with each block, such as a digest's `update`
    """

    def __init__(self, file: IO[bytes], see: Callable[[bytes], object] | None = None) -> None:
        self._file = file
        self._see = see
        self._lines: list[bytes] = []
        self._size = 0

    def write(self, lines: bytes) -> None:
        """Add lines."""
        self._lines.append(lines)
        self._size += len(lines)
        if self._size >= WRITTEN_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is left."""
        block = b"".join(self._lines)
        if self._see is not None:
            self._see(block)
        self._file.write(block)
        self._lines.clear()
        self._size = 0
