"""JSON as servers send it: what the standard forbids is replaced, not refused."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from contextlib import suppress
from math import isfinite
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_SURROGATES = re.compile("[\ud800-\udfff]")
# A list is in the `data` of an object, which may be in the `data` of another one.
MOST_WRAPPERS = 4
# What such an object has beside its `data`, in bytes.
LARGEST_WRAPPER = 65_536


class _Data(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()


_any_decoder = msgspec.json.Decoder()
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_data_decoder = msgspec.json.Decoder(_Data)
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def decode_any(text: bytes) -> Any:
    """Return the value of a JSON text.

    :raises msgspec.DecodeError: when it is not JSON, or nested too deeply
    """
    return decode(_any_decoder, text)


def count_of_values(text: bytes) -> int:
    """Return about how many values a JSON text has; those that are within strings count too."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def decode_page(
    text: bytes,
    decode: Callable[[bytes], Any] = decode_any,
    check: Callable[[bytes | msgspec.Raw], object] = lambda _: None,
) -> Any:
    """Return the value of a JSON text, but leave the items of the list that it is, or has in its `data`, undecoded.

    These are `msgspec.Raw`. A list that is not paged has all that an account has, and takes several times the memory
    once it is decoded.

    :param decode: decodes everything else, and the whole text when it has to be repaired
    :param check: called with each item, and with what is going to be decoded; raises when it is too large
    :raises msgspec.DecodeError: when it is not JSON, or nested too deeply
    """

    def checked(part: bytes | msgspec.Raw) -> Any:
        check(part)
        return decode(bytes(part))

    try:
        return _page(text.removeprefix(codecs.BOM_UTF8).strip(), checked, check, MOST_WRAPPERS)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return checked(text)


def _page(
    text: bytes | msgspec.Raw,
    checked: Callable[[bytes | msgspec.Raw], Any],
    check: Callable[[bytes | msgspec.Raw], object],
    wrappers: int,
) -> Any:
    start = bytes(memoryview(text)[:1])
    if start == b"[":
        items = _items_decoder.decode(text)
        for item in items:
            check(item)
        return items
    # Each wrapper has the whole text looked through once more.
    if start != b"{" or not wrappers or _beside_data(text) > LARGEST_WRAPPER:
        return checked(text)
    return {
        name: _page(raw, checked, check, wrappers - 1) if name == "data" else checked(raw)
        for name, raw in _fields_decoder.decode(text).items()
    }


def _beside_data(text: bytes | msgspec.Raw) -> int:
    return memoryview(text).nbytes - memoryview(_data_decoder.decode(text).data).nbytes


def decode(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    """Return what the decoder makes of a text, or of what can be read of it.

    Halves of characters and bytes that are no UTF-8 become U+FFFD; NaN and numbers beyond all bounds become null.

    :raises msgspec.DecodeError: when it is not JSON, nested too deeply, or not what the decoder wants
    """
    # What fails here is repaired and decoded once more.
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decoder.decode(text)
    try:
        return decoder.decode(_mended(text))
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def text_of(value: Any) -> str:
    """Return a text for any value that `decode_any` returns."""
    try:
        return str(value)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _mended(text: bytes) -> bytes:
    try:
        value = json.loads(
            text.decode("utf-8-sig", "replace"), parse_float=_finite, parse_int=_integer, parse_constant=_finite
        )
        return _SURROGATES.sub("\ufffd", json.dumps(value, ensure_ascii=False)).encode()
    except ValueError:
        return text


def _finite(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        # Python reads no more than 4,300 digits.
        return None
