"""Valid JSON, what servers send as JSON, and files of such lines, valid or damaged."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import strategies as st


class Raw(float):
    """A number that is written literally."""

    def __new__(cls, text: str) -> Raw:
        number = super().__new__(cls, text if len(text) < 100 else "1")
        number.text = text
        return number

    def __repr__(self) -> str:
        return f"Raw({self.text[:20]!r}...)"


def dumps(value: Any, ascii_only: bool = True) -> str:
    """Return JSON; an object may be a list of pairs, so that keys may repeat, and numbers may be any text."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{dumps(k, ascii_only)}: {dumps(v, ascii_only)}" for k, v in value) + "}"
    if isinstance(value, dict):
        return dumps(Pairs(value.items()), ascii_only)
    if isinstance(value, list):
        return "[" + ", ".join(dumps(item, ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


class Pairs(tuple[Any, ...]):
    """Return objects that may have repeated keys."""


def nested(depth: int) -> Any:
    return Raw("[" * depth + "]" * depth)


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Return one of these values, which may be long; `sampled_from` would show all of them in its name."""
    return st.sampled_from(range(len(values))).map(values.__getitem__)


TEXTS = st.text(st.characters(), max_size=8) | one_of(
    "", " ", "\x00", "\ud83d", "half \ude00\ud83d", "\ufeff", "é\u2028", "x" * 2000, "200", "https://a/b?Signature=s"
)
NUMBERS = (
    st.integers()
    | st.floats()
    | one_of(0, -1, 1, 127, 128, 200, 20000, 2**53, 2**63, 2**64, 10**400, 253402300799, 253402300800, 1e300, 0.5)
    | one_of(Raw("1e999"), Raw("-1E+9999"), Raw("9" * 5000), Raw("-0"), Raw("1.0"), Raw("128.0"))
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
) | one_of([], {}, nested(400), nested(900), nested(985), nested(3000), nested(100_000), Raw("[" * 5000))


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects with these fields, which may be valid, of another type, missing or repeated; or other values."""
    one = st.one_of(*[st.tuples(st.just(name), value) for name, value in known.items()])
    wrong = st.tuples(st.sampled_from(list(known)), JSON)
    right = st.fixed_dictionaries(known).map(lambda pairs: tuple(pairs.items()))
    extra = st.lists(one | wrong | st.tuples(TEXTS, JSON), max_size=3).map(tuple)
    partial = st.fixed_dictionaries({}, optional=known).map(lambda pairs: tuple(pairs.items()))
    # The last of equal keys counts, so fields in front break less.
    whole = st.tuples(right | partial, extra).map(lambda two: Pairs(two[0] + two[1]))
    return st.one_of(right.map(Pairs), whole, st.tuples(extra, right).map(lambda two: Pairs(two[0] + two[1]))) | JSON


def texts_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return the bytes of such values, valid or damaged."""
    written = st.builds(dumps, values, st.booleans()).map(lambda text: text.encode("utf-8", "surrogatepass"))

    def damage(draw: st.DrawFn) -> bytes:
        text = draw(written)
        kind = draw(st.sampled_from(["none"] * 8 + ["cut", "bom", "byte", "append", "utf-16", "spaces"]))
        place = draw(st.integers(0, len(text)))
        piece = draw(
            st.sampled_from([b"\xff", b"\xe9", b"\x00", b"\xed\xa0\x80", b"\r", b'"', b"}", b"NaN", b"\\ud83d"])
        )
        return {
            "none": text,
            "cut": text[:place],
            "bom": b"\xef\xbb\xbf" + text,
            "byte": text[:place] + piece + text[place:],
            "append": text + piece,
            "utf-16": text.decode("utf-8", "replace").encode("utf-16"),
            "spaces": b" \t" + text + b"  ",
        }[kind]

    return st.composite(damage)()


def files_of(lines: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return files of such lines, with any line ends and blank lines."""
    line = st.tuples(lines | st.sampled_from([b"", b" \t", b"\x0b"]), st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]))
    return st.tuples(st.lists(line.map(b"".join), max_size=6).map(b"".join), lines | st.just(b"")).map(b"".join)


def lines_in(content: bytes) -> list[bytes]:
    return io.BytesIO(content).readlines()
