"""The bodies of answers: unpacked a piece at a time, and never more of them than there is room for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from http.client import IncompleteRead

import msgspec
import requests
from urllib3.exceptions import DecodeError, ProtocolError

from siliconflow_provider.api.errors import AnswerTooLargeError
from siliconflow_provider.api.lenient_json import count_of_values

PIECE_BYTES = 65_536
# An unpaged list of 20,000 batches with long metadata and two signed URLs each has some 50 MB and a million values.
# Of those, each takes some 70 bytes of memory, and decoding them holds up all threads.
LARGEST_LIST = 64 * 1024 * 1024
MOST_VALUES_OF_LIST = 2_000_000
# One object, such as a batch with the errors of 5,000 lines.
LARGEST_OBJECT = 8 * 1024 * 1024
MOST_VALUES_OF_OBJECT = 300_000
_PACKED = ("gzip", "x-gzip", "deflate")


def pieces_of_body(response: requests.Response, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """Yield a body unpacked, at most so many bytes at a time.

    urllib3 unpacks all that a piece stands for at once, which can be a thousand times as much, or with several
    encodings a million times.

    :raises HTTPError: of urllib3, when it breaks off or cannot be unpacked
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    packed = response.raw.stream(size, decode_content=False)
    if encoding in ("", "identity"):
        yield from packed
        return
    if encoding not in _PACKED:
        raise DecodeError(f"the body is packed as {encoding!r}, which nobody asked for")
    yield from _unpacked(packed, size)


def whole_body(response: requests.Response, what: str, *, is_list: bool = False) -> bytes:
    """Return a body that is JSON.

    :param what: the request in messages
    :param is_list: whether it may be a list of all that an account has
    :raises AnswerTooLargeError: when it is larger than any answer of the service
    """
    largest, most_values = (LARGEST_LIST, MOST_VALUES_OF_LIST) if is_list else (LARGEST_OBJECT, MOST_VALUES_OF_OBJECT)
    pieces: list[bytes] = []
    size = values = 0
    for piece in pieces_of_body(response):
        pieces.append(piece)
        size += len(piece)
        values += count_of_values(piece)
        if size > largest or values > most_values:
            limit = f"{largest:,} bytes" if size > largest else f"{most_values:,} values"
            raise AnswerTooLargeError(f"{what} was answered with more than {limit}: check the base URL")
    return b"".join(pieces)


def check_object(text: bytes | msgspec.Raw, what: str) -> None:
    """Raise AnswerTooLargeError when one object of a list is larger than any of the service."""
    size = memoryview(text).nbytes
    # Of fewer bytes, it cannot have as many values.
    if size > MOST_VALUES_OF_OBJECT and (size > LARGEST_OBJECT or count_of_values(bytes(text)) > MOST_VALUES_OF_OBJECT):
        limit = f"{LARGEST_OBJECT:,} bytes or {MOST_VALUES_OF_OBJECT:,} values"
        raise AnswerTooLargeError(f"{what} was answered with a part of more than {limit}: check the base URL")


def start_of_body(response: requests.Response, size: int) -> bytes:
    """Return as much of a body as that."""
    start = b""
    for piece in pieces_of_body(response, size):
        start += piece
        if len(start) >= size:
            break
    return start[:size]


def _unpacked(packed: Iterator[bytes], size: int) -> Iterator[bytes]:
    unpacker, has_begun = _unpacker(), False
    for piece in packed:
        while piece:
            if unpacker.eof:
                # A body may be packed in several parts one after the other; zeros behind them are padding.
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                unpacker = _unpacker()
            has_begun = True
            try:
                unpacked = unpacker.decompress(piece, size)
            except zlib.error as error:
                raise DecodeError(f"the body cannot be unpacked: {error}") from None
            if unpacked:
                yield unpacked
            piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        while not unpacker.eof and (unpacked := unpacker.decompress(b"", size)):
            yield unpacked
    if has_begun and not unpacker.eof:
        raise ProtocolError("the packed body ended too early", IncompleteRead(b""))


def _unpacker() -> zlib._Decompress:
    # These window bits stand for gzip and zlib.
    return zlib.decompressobj(47)
