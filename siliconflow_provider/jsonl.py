"""Read and write lines of JSON in blocks of many lines."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from math import inf
from operator import itemgetter
from typing import IO, TypeVar

import msgspec

READ_BYTES = 1 << 17
WRITTEN_BYTES = 1 << 16
# The service documents no limit for a line, only 1 GB for 5,000 requests. This is twenty times the text of the largest
# context of a model. A decoded line needs about six times its length in memory.
LONGEST_LINE = 1 << 25
# A list or an object needs up to 200 bytes of memory, and millions of them take seconds. A line that is full of token
# probabilities has 1,200,000 brackets.
MOST_BRACKETS = 2_000_000
TOO_LONG = f"more than {LONGEST_LINE:,} bytes or {MOST_BRACKETS:,} opening brackets"
# The bytes that a `LongLine` keeps.
LONG_LINE_BYTES = 1 << 11
T = TypeVar("T")

_first, _last_but_one = itemgetter(0), itemgetter(-2)


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a file in chunks."""
    while chunk := file.read(READ_BYTES):
        yield chunk


class LongLine(bytes):
    """The beginning of a line that is too long, or has too many brackets, to be decoded."""


def line_blocks(chunks: Iterable[bytes], max_line_bytes: float = inf) -> Iterator[bytes]:
    """Yield the same bytes in blocks of whole lines; only the last block may lack its end of line.

    :param max_line_bytes: a line that has more bytes, or too many brackets, is a block of its own: a `LongLine`
    """
    begun: list[bytes] = []
    size = 0
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            first = chunk.find(b"\n") + 1
            if size + first > max_line_bytes:
                yield _long_line([*begun, chunk[:first]])
                begun, chunk, end = [], chunk[first:], end - first
            if begun or end:
                yield from _decodable(b"".join((*begun, chunk[:end])), max_line_bytes)
            begun, size = [], 0
        rest = chunk[end:]
        size += len(rest)
        begun.append(rest)
        if size > max_line_bytes:
            begun = [b"".join(begun)[:LONG_LINE_BYTES]]
    if size > max_line_bytes:
        yield _long_line(begun)
    elif any(begun):
        yield from _decodable(b"".join(begun), max_line_bytes)


def _decodable(block: bytes, max_line_bytes: float) -> Iterable[bytes]:
    """Return a block, or its lines if one of them may have too many brackets."""
    if max_line_bytes == inf or _brackets(block) <= MOST_BRACKETS:
        return [block]
    lines = split_lines(block)
    return [_long_line([line]) if _brackets(line) > MOST_BRACKETS else line for line in lines]


def _brackets(text: bytes) -> int:
    # A shorter text cannot have too many.
    return text.count(b"[") + text.count(b"{") if len(text) > MOST_BRACKETS else 0


def _long_line(begun: Iterable[bytes]) -> LongLine:
    return LongLine(b"".join(begun)[:LONG_LINE_BYTES].rstrip(b"\r\n"))


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of a block, each with its end of line."""
    return [block] if isinstance(block, LongLine) else io.BytesIO(block).readlines()


def read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file. A line that is too long, or has too many brackets, is a `LongLine`."""
    for block in line_blocks(read_chunks(file), LONGEST_LINE):
        yield from split_lines(block)


def decode_lines(decoder: msgspec.json.Decoder[T], block: bytes) -> list[T] | None:
    """Return the value of each line; None if the caller has to decode each line separately.

    :param decoder: decodes an object
    """
    lines = split_lines(block)
    try:
        # If each line starts with `{` and ends with `}`, as many values as lines mean one value for each line.
        if {*map(_first, lines)} != {ord("{")} or {*map(_last_but_one, lines)} != {ord("}")} or block[-1:] != b"\n":
            return None
        values = decoder.decode_lines(block)
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError, RecursionError):
        return None
    return values if len(values) == len(lines) else None


class BlockWriter:
    """Write lines to a file in blocks.

    :param on_block: called with each block, such as a digest's `update`
    """

    def __init__(self, file: IO[bytes], on_block: Callable[[bytes], object] | None = None) -> None:
        self._file = file
        self._on_block = on_block
        self._lines: list[bytes] = []
        self._size = 0

    def write(self, lines: bytes) -> None:
        """Add lines."""
        self._lines.append(lines)
        self._size += len(lines)
        if self._size >= WRITTEN_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the remaining lines."""
        block = b"".join(self._lines)
        if self._on_block is not None:
            self._on_block(block)
        self._file.write(block)
        self._lines.clear()
        self._size = 0
