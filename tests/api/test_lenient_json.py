from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from siliconflow_provider.api.lenient_json import decode, decode_any, decode_page, text_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": NaN, "b": -Infinity, "c": 1e999}', {"a": None, "b": None, "c": None}),
        (b'{"a": "half \\ud83d"}', {"a": "half \ufffd"}),
        (b'{"a": "caf\xe9"}', {"a": "caf\ufffd"}),
        (b'{"a": %b, "b": 1}' % (b"9" * 5000), {"a": None, "b": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_invalid_json_values_are_replaced(text: bytes, value: Any) -> None:
    assert decode_any(text) == value


@pytest.mark.parametrize("text", [b"", b"<html>", b"{", b'{"a": 1}}', b"[" * 100_000, b"[" * 5000 + b"]" * 5000])
def test_invalid_or_too_deep_json_is_decode_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_any(text)


def test_repaired_text_must_have_the_wanted_type() -> None:
    decoder = msgspec.json.Decoder(dict[str, int])
    assert decode(decoder, b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    with pytest.raises(msgspec.ValidationError):
        decode(decoder, b'{"a": NaN}')


def test_text_of_returns_text_for_any_value() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert (text_of("a"), text_of([1]), text_of(deep)) == ("a", "[1]", "(nested too deeply to be shown)")


PAGE = b'{"object": "list", "data": [{"id": "a"}, {"id": "b"}], "has_more": true}'


@pytest.mark.parametrize(
    "text", [PAGE, b'{"code": 20000, "data": ' + PAGE + b"}", b"\xef\xbb\xbf\n" + PAGE], ids=range(3)
)
def test_page_equals_the_decoded_value(text: bytes) -> None:
    def decoded(value: Any) -> Any:
        return [decode_any(bytes(item)) if isinstance(item, msgspec.Raw) else item for item in value]

    page, whole = decode_page(text), decode_any(text)
    while isinstance(page["data"], dict):
        page, whole = page["data"], whole["data"]
    assert {**page, "data": decoded(page["data"])} == whole


@pytest.mark.parametrize("text", [b"1", b"null", b'{"data": null}', b'{"data": 7, "n": NaN}', b'{"message": "no"}'])
def test_other_values_are_decoded_normally(text: bytes) -> None:
    assert decode_page(text) == decode_any(text)


def test_items_of_a_plain_list_stay_undecoded() -> None:
    assert decode_page(b' [{"id": "a"}, 1]') == [msgspec.Raw(b'{"id": "a"}'), msgspec.Raw(b"1")]


def test_deep_wrappers_are_not_searched() -> None:
    decoded: list[bytes] = []
    text = b'{"data": ' * 400 + b"1" + b"}" * 400
    decode_page(text, lambda part: decoded.append(part))
    assert [len(text) - len(part) for part in decoded] == [4 * len(b'{"data": }')]


def test_object_with_many_fields_is_not_a_page() -> None:
    text = b'{"data": [1], %b}' % b", ".join(b'"%d": 1' % number for number in range(10_000))
    decoded: list[bytes] = []
    decode_page(text, lambda part: decoded.append(part))
    assert decoded == [text]


def test_too_large_value_is_not_decoded() -> None:
    def check(part: bytes | msgspec.Raw) -> None:
        if len(bytes(part)) > 30:
            raise OverflowError

    assert decode_page(PAGE, check=check)["has_more"] is True
    long = b'"' + b"x" * 30 + b'"'
    for text in (
        b'{"data": [%b]}',
        b'{"data": [1], "more": %b}',
        b'{"data": [1], "a": NaN, "more": %b}',
        b"[%b]",
        b"%b",
    ):
        with pytest.raises(OverflowError):
            decode_page(text % long, lambda part: pytest.fail("it was decoded") if long in part else 1, check)


def test_undecoded_items_take_little_memory() -> None:
    """The list of an account may be unpaged."""
    item = json.dumps({"metadata": {f"key_{number}": "v" * 50 for number in range(12)}}).encode()
    text = b'{"data": [' + b", ".join([item] * 2_000) + b"]}"
    tracemalloc.start()
    try:
        page = decode_page(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(page["data"]) == 2_000
    assert peak < len(text) / 2
