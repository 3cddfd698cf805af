"""Decode JSON leniently: replace values that the standard forbids, instead of failing."""

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
# A list may be in the `data` of an object, and that object in the `data` of another one.
MOST_WRAPPERS = 4
# Bytes that such an object may have besides its `data`.
LARGEST_WRAPPER = 65_536


class _Data(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()


_any_decoder = msgspec.json.Decoder()
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_data_decoder = msgspec.json.Decoder(_Data)
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def decode_any(text: bytes) -> Any:
    """Return the value of a JSON text.

    :raises msgspec.DecodeError: if it is not JSON, or nested too deeply
    """
    return decode(_any_decoder, text)


def count_of_values(text: bytes) -> int:
    """Return an estimate of the number of values in a JSON text. Punctuation in strings is counted, too."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def decode_page(
    text: bytes,
    decode: Callable[[bytes], Any] = decode_any,
    check: Callable[[bytes | msgspec.Raw], object] = lambda _: None,
) -> Any:
    """Return the value of a JSON text, with the items of its list undecoded, as `msgspec.Raw`.

    The list is the value itself or its `data`. An unpaged list has all objects of an account, and takes several times
    the memory once it is decoded.

    :param decode: decodes everything else, and the whole text if it must be repaired
    :param check: called with each item and with each text before it is decoded; raises if it is too large
    :raises msgspec.DecodeError: if it is not JSON, or nested too deeply
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
    # Each wrapper costs one more pass over the whole text.
    if start != b"{" or not wrappers or _beside_data(text) > LARGEST_WRAPPER:
        return checked(text)
    return {
        name: _page(raw, checked, check, wrappers - 1) if name == "data" else checked(raw)
        for name, raw in _fields_decoder.decode(text).items()
    }


def _beside_data(text: bytes | msgspec.Raw) -> int:
    return memoryview(text).nbytes - memoryview(_data_decoder.decode(text).data).nbytes


def decode(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    """Return the decoded value of a text. Repair an invalid text first.

    Lone surrogates and bytes that are not UTF-8 become U+FFFD; NaN and too large numbers become null.

    :raises msgspec.DecodeError: if it is not JSON, nested too deeply, or of another type than the decoder's
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decoder.decode(text)
    try:
        return decoder.decode(_repaired(text))
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def text_of(value: Any) -> str:
    """Return a text for any value that `decode_any` returns."""
    try:
        return str(value)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _repaired(text: bytes) -> bytes:
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
        # Python converts at most 4,300 digits.
        return None
