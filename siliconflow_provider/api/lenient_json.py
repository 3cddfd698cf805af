"""JSON as servers send it: what the standard forbids is replaced, not refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_SURROGATES = re.compile("[\ud800-\udfff]")
_any_decoder = msgspec.json.Decoder()
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def decode_any(text: bytes) -> Any:
    """Return the value of a JSON text.

    :raises msgspec.DecodeError: when it is not JSON, or nested too deeply
    """
    return decode(_any_decoder, text)


def decode_page(text: bytes, decode: Callable[[bytes], Any] = decode_any) -> Any:
    """Return the value of a JSON text, but leave the items of the list in its `data` undecoded, as `msgspec.Raw`.

    A list that is not paged has all that an account has, and takes several times the memory once it is decoded.

    :param decode: decodes a text that is no object, or has to be mended, items and all
    :raises msgspec.DecodeError: when it is not JSON, or nested too deeply
    """
    try:
        return _page(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode(text)


def _page(text: bytes | msgspec.Raw) -> dict[str, Any]:
    fields = _fields_decoder.decode(text)
    return {name: _data(raw) if name == "data" else _any_decoder.decode(raw) for name, raw in fields.items()}


def _data(raw: msgspec.Raw) -> Any:
    start = bytes(memoryview(raw)[:1])
    return _items_decoder.decode(raw) if start == b"[" else _page(raw) if start == b"{" else _any_decoder.decode(raw)


def decode(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    """Return what the decoder makes of a text, or of what can be read of it.

    Halves of characters and bytes that are no UTF-8 become U+FFFD; NaN and numbers beyond all bounds become null.

    :raises msgspec.DecodeError: when it is not JSON, nested too deeply, or not what the decoder wants
    """
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
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
