"""JSON as servers send it: what the standard forbids is replaced, not refused."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_SURROGATES = re.compile("[\ud800-\udfff]")
_any_decoder = msgspec.json.Decoder()


def decode_any(text: bytes) -> Any:
    """Return the value of a JSON text.

    :raises msgspec.DecodeError: when it is not JSON, or nested too deeply
    """
    return decode(_any_decoder, text)


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
