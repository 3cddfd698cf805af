"""Find the requests of a job by their bodies, in at most 60 bytes of memory a request."""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec


class Request(msgspec.Struct, gc=False):
    """The fields of a request line that decide about its answer, and its id."""

    custom_id: str
    body: dict[str, Any]


class _RequestId(msgspec.Struct, gc=False):
    custom_id: str


Digest = tuple[int, int]
decode_request = msgspec.json.Decoder(Request).decode
_decode_id = msgspec.json.Decoder(_RequestId).decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode
_two_numbers = struct.Struct("QQ").unpack_from


def body_digest(request: Request) -> Digest:
    """Return 128 bits of the hash of a request's body, which names the model too.

    Neither spaces nor the order of fields count, except inside fields such as `response_format` and `tools`: a model
    may answer in the order of a JSON schema.
    """
    body = request.body
    for name, value in body.items():
        if name != "messages" and isinstance(value, (dict, list)):
            body[name] = msgspec.Raw(_encode(value))
    high, low = _two_numbers(hashlib.sha256(_encode_sorted(body)).digest())
    return high, low


class RequestIndex:
    """The positions of a job's requests, by their bodies, and which requests are answered.

    A hash table in arrays, since a dictionary would take several times its memory. The requests with equal bodies form
    a ring. Each slot of the table names the last answered request of a ring, or the last one if none is answered.

    :param requests: the file of all request lines
    :param count: the number of requests
    """

    def __init__(self, requests: Path, count: int) -> None:
        self._digests = array("Q")
        self._starts = array("Q", [0])
        self._next = array("I", range(count))
        # At most two thirds are in use. A slot is a position plus 1; 0 is an empty slot.
        self._mask = (1 << (count * 3 // 2).bit_length()) - 1
        self._slots = array("I", bytes(4 * (self._mask + 1)))
        self._is_answered = bytearray(count)
        self._file = requests.open("rb")
        self._read(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._is_answered)

    def _read(self, count: int) -> None:
        start = 0
        for position, line in zip(range(count), self._file, strict=False):
            digest = body_digest(decode_request(line))
            self._digests.extend(digest)
            start += len(line)
            self._starts.append(start)
            slot = self._slot_of(digest)
            if self._slots[slot]:
                last = self._slots[slot] - 1
                self._next[position], self._next[last] = self._next[last], position
            self._slots[slot] = position + 1

    def _slot_of(self, digest: Digest) -> int:
        """Return the slot of a body, or the empty slot that it would get."""
        slots, digests, mask = self._slots, self._digests, self._mask
        slot = digest[0] & mask
        while found := slots[slot]:
            place = 2 * found - 2
            if digests[place] == digest[0] and digests[place + 1] == digest[1]:
                break
            slot = (slot + 1) & mask
        return slot

    def _slot_at(self, position: int) -> int:
        return self._slot_of((self._digests[2 * position], self._digests[2 * position + 1]))

    def next_unanswered(self, digest: Digest) -> int | None:
        """Return the first unanswered request with this body, or None."""
        found = self._slots[self._slot_of(digest)]
        if not found:
            return None
        position = self._next[found - 1]
        return None if self._is_answered[position] else position

    def set_answered(self, position: int) -> None:
        """Mark a request as answered."""
        self._is_answered[position] = 1
        self.represent(position)

    def is_answered(self, position: int) -> bool:
        """Return True if a request is answered."""
        return bool(self._is_answered[position])

    def has_answers(self, first: int, count: int) -> bool:
        """Return True if any of these requests is answered."""
        return self._is_answered.find(1, first, first + count) >= 0

    def unanswered(self, first: int = 0, count: int | None = None) -> Iterator[int]:
        """Yield the positions of the unanswered requests among these."""
        end = len(self) if count is None else first + count
        position = self._is_answered.find(0, first, end)
        while position >= 0:
            yield position
            position = self._is_answered.find(0, position + 1, end)

    def represent(self, position: int) -> None:
        """Let `representative` return this request for all with an equal body."""
        self._slots[self._slot_at(position)] = position + 1

    def representative(self, position: int) -> int:
        """Return the request that was last answered, or chosen, among those with an equal body."""
        return self._slots[self._slot_at(position)] - 1

    def count_answered(self) -> array[int]:
        """Return the number of answered requests with an equal body, at the position of the `representative`."""
        counts = array("I", bytes(4 * len(self)))
        for position in range(len(self)):
            if self._is_answered[position]:
                counts[self.representative(position)] += 1
        return counts

    def custom_id(self, position: int) -> str:
        """Return the custom_id of a request."""
        start = self._starts[position]
        return _decode_id(os.pread(self._file.fileno(), self._starts[position + 1] - start, start)).custom_id
