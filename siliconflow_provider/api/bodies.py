"""Read response bodies: decompress them piece by piece, and refuse bodies that are too large."""

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
# An unpaged list of 20,000 batches with long metadata and two signed URLs each has about 50 MB and a million values.
# Each value takes about 70 bytes of memory, and decoding blocks all threads.
LARGEST_LIST = 64 * 1024 * 1024
MOST_VALUES_OF_LIST = 2_000_000
# One object, such as a batch with the errors of 5,000 lines.
LARGEST_OBJECT = 8 * 1024 * 1024
MOST_VALUES_OF_OBJECT = 300_000
_ENCODINGS = ("gzip", "x-gzip", "deflate")


def pieces_of_body(response: requests.Response, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """Yield the decompressed body in pieces of at most `size` bytes.

    urllib3 decompresses a whole piece at once. The result can be a thousand times as large, or a million times with
    several encodings.

    :raises HTTPError: of urllib3, if the body breaks off or cannot be decompressed
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    compressed = response.raw.stream(size, decode_content=False)
    if encoding in ("", "identity"):
        yield from compressed
        return
    if encoding not in _ENCODINGS:
        raise DecodeError(f"the body has the unsupported content encoding {encoding!r}")
    yield from _decompressed(compressed, size)


def whole_body(response: requests.Response, request_name: str, *, is_list: bool = False) -> bytes:
    """Return the whole body of a JSON response.

    :param request_name: the request in messages
    :param is_list: True allows the size of a list of all the account's objects
    :raises AnswerTooLargeError: if the body is larger than any response of the service
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
            raise AnswerTooLargeError(f"{request_name} was answered with more than {limit}: check the base URL")
    return b"".join(pieces)


def check_object(text: bytes | msgspec.Raw, request_name: str) -> None:
    """Raise AnswerTooLargeError if one object of a list is larger than any object of the service."""
    size = memoryview(text).nbytes
    # A text with fewer bytes than MOST_VALUES_OF_OBJECT has fewer values, too.
    if size > MOST_VALUES_OF_OBJECT and (size > LARGEST_OBJECT or count_of_values(bytes(text)) > MOST_VALUES_OF_OBJECT):
        limit = f"{LARGEST_OBJECT:,} bytes or {MOST_VALUES_OF_OBJECT:,} values"
        raise AnswerTooLargeError(f"{request_name} was answered with a part of more than {limit}: check the base URL")


def start_of_body(response: requests.Response, size: int) -> bytes:
    """Return the first `size` bytes of a body."""
    start = b""
    for piece in pieces_of_body(response, size):
        start += piece
        if len(start) >= size:
            break
    return start[:size]


def _decompressed(compressed: Iterator[bytes], size: int) -> Iterator[bytes]:
    decompressor, has_begun = _decompressor(), False
    for piece in compressed:
        while piece:
            if decompressor.eof:
                # A body may have several compressed members in a row; zeros after them are padding.
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                decompressor = _decompressor()
            has_begun = True
            try:
                decompressed = decompressor.decompress(piece, size)
            except zlib.error as error:
                raise DecodeError(f"the body cannot be decompressed: {error}") from None
            if decompressed:
                yield decompressed
            piece = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
        while not decompressor.eof and (decompressed := decompressor.decompress(b"", size)):
            yield decompressed
    if has_begun and not decompressor.eof:
        raise ProtocolError("the compressed body ended too early", IncompleteRead(b""))


def _decompressor() -> zlib._Decompress:
    # 47 accepts gzip and zlib.
    return zlib.decompressobj(47)
