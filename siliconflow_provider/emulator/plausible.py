"""Plausible texts and numbers for the fields of a JSON schema."""

from __future__ import annotations

import base64
import math
import re
import uuid
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from siliconflow_provider.emulator.patterns import matching_text
from siliconflow_provider.emulator.schema_tree import whole_number

Choose = Callable[[int], int]

USUAL_SPAN = 100
FINEST_STEPS = 100


def text(plain: dict[str, Any], name: str, choose: Choose) -> str:
    """Return a text for a field, in its format, of its length, and matching its pattern if that can be found."""
    pattern, formatted = plain.get("pattern"), FORMATS.get(str(plain.get("format")))
    if formatted is not None:
        return formatted(name, choose)
    words = re.sub(r"[\W_]+", " ", name).strip() or "text"
    usual = _of_length(plain, f"{words} {choose(1000)}")
    if not isinstance(pattern, str) or fits_text(plain, usual):
        return usual
    return matching_text(pattern, choose, lambda found: fits_text(plain, found)) or usual


def fits_text(plain: dict[str, Any], value: str) -> bool:
    """Return True if a text has the length and the pattern of a schema without a format."""
    pattern = plain.get("pattern")
    try:
        matches = not isinstance(pattern, str) or re.search(pattern, value) is not None
    except re.error:
        matches = False
    most = whole_number(plain, "maxLength", len(value))
    return matches and whole_number(plain, "minLength") <= len(value) <= most and "format" not in plain


def number(plain: dict[str, Any], choose: Choose, *, whole: bool) -> int | float:
    """Return a number within the bounds of a schema; with `whole`, an integer if the bounds have one."""
    step = _number_at(plain, "multipleOf") or Fraction(1 if whole else Fraction(1, 100))
    if plain.get("type") == "integer":
        step = Fraction(step.numerator)  # the integers among the multiples
    first, last = _multiples(plain, step)
    if first > last and "multipleOf" not in plain:
        lowest, highest = _bounds(plain)
        step = ((highest or Fraction(1)) - (lowest or Fraction(0))) / FINEST_STEPS
        first, last = _multiples(plain, step) if step > 0 else (first, first)
    value = step * (first + choose(max(last - first + 1, 1)))
    return int(value) if value.denominator == 1 else float(value)


def fits_number(plain: dict[str, Any], value: Fraction) -> bool:
    """Return True if a number has the type, the bounds and the step of a schema."""
    step = _number_at(plain, "multipleOf") or (Fraction(1) if plain.get("type") == "integer" else None)
    if (step and (value / step).denominator != 1) or (plain.get("type") == "integer" and value.denominator != 1):
        return False
    first, last = _bounds(plain)
    if (first is not None and value < first) or (last is not None and value > last):
        return False
    return value not in (_number_at(plain, "exclusiveMinimum"), _number_at(plain, "exclusiveMaximum"))


def _bounds(plain: dict[str, Any]) -> tuple[Fraction | None, Fraction | None]:
    low = [_number_at(plain, keyword) for keyword in ("minimum", "exclusiveMinimum")]
    high = [_number_at(plain, keyword) for keyword in ("maximum", "exclusiveMaximum")]
    return (
        max((bound for bound in low if bound is not None), default=None),
        min((bound for bound in high if bound is not None), default=None),
    )


def _multiples(plain: dict[str, Any], step: Fraction) -> tuple[int, int]:
    """Return the first and the last multiple of the step; of an open range, the usual ones."""
    low, high = _bounds(plain)
    first = None if low is None else math.ceil(low / step)
    last = None if high is None else math.floor(high / step)
    if first is not None and first * step == _number_at(plain, "exclusiveMinimum"):
        first += 1
    if last is not None and last * step == _number_at(plain, "exclusiveMaximum"):
        last -= 1
    span = max(math.floor(USUAL_SPAN / step), 10)
    if first is None:
        first = 0 if last is None or last >= 0 else last - span
    return first, first + span if last is None else last


def _number_at(plain: dict[str, Any], keyword: str) -> Fraction | None:
    value = plain.get(keyword)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return Fraction(str(value))  # 0.1 is a tenth


def _of_length(plain: dict[str, Any], value: str) -> str:
    """Return a text cut or repeated to the length of a schema. It does not end with a blank, which may be stripped."""
    least = whole_number(plain, "minLength")
    most = whole_number(plain, "maxLength", max(least, len(value)))
    if len(value) < least:
        value = " ".join([value] * (least // len(value) + 1))[:least]
    value = value[:most]
    return value[:-1] + "x" if value.endswith(" ") else value


def _slug(name: str, choose: Choose) -> str:
    word = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].strip("-") or "item"
    return f"{word}-{choose(1000)}"


def _date(name: str, choose: Choose) -> str:
    return f"2024-{1 + choose(12):02}-{1 + choose(28):02}"


def _time(name: str, choose: Choose) -> str:
    return f"{choose(24):02}:{choose(60):02}:00"


def _email(name: str, choose: Choose) -> str:
    return f"{_slug(name, choose)}@example.com"


def _uuid(version: int) -> Callable[[str, Choose], str]:
    return lambda name, choose: str(uuid.UUID(int=choose(1 << 128), version=version))


def _address(suffix: str) -> Callable[[str, Choose], str]:
    return lambda name, choose: f"192.0.2.{choose(256)}{suffix}"


def _address_6(suffix: str) -> Callable[[str, Choose], str]:
    return lambda name, choose: f"2001:db8::{1 + choose(0xFFFE):x}{suffix}"


def _base64(encode: Callable[[bytes], bytes]) -> Callable[[str, Choose], str]:
    return lambda name, choose: encode(_slug(name, choose).encode()).decode()


def _fixed(value: str) -> Callable[[str, Choose], str]:
    return lambda name, choose: value


def _uri(name: str, choose: Choose) -> str:
    return f"https://example.com/{_slug(name, choose)}"


FORMATS: dict[str, Callable[[str, Choose], str]] = {
    "date": _date,
    "date-time": lambda name, choose: f"{_date(name, choose)}T{_time(name, choose)}Z",
    "time": _time,
    "duration": lambda name, choose: f"PT{choose(24)}H{1 + choose(59)}M",
    "email": _email,
    "name-email": lambda name, choose: f"Kim Doe <{_email(name, choose)}>",
    "uri": _uri,
    "iri": _uri,
    "uri-reference": lambda name, choose: f"/{_slug(name, choose)}",
    "hostname": lambda name, choose: f"{_slug(name, choose)}.example.com",
    "uuid": _uuid(4),
    **{f"uuid{version}": _uuid(version) for version in (1, 3, 4, 5, 6, 7, 8)},
    **dict.fromkeys(("ipv4", "ipvanyaddress"), _address("")),
    **dict.fromkeys(("ipv4interface", "ipvanyinterface"), _address("/24")),
    **dict.fromkeys(("ipv4network", "ipvanynetwork"), _fixed("192.0.2.0/24")),
    "ipv6": _address_6(""),
    "ipv6interface": _address_6("/64"),
    "ipv6network": _fixed("2001:db8::/32"),
    "base64": _base64(base64.b64encode),
    "base64url": _base64(base64.urlsafe_b64encode),
    "regex": lambda name, choose: f"^{_slug(name, choose)}$",
    "directory-path": _fixed("/"),
}
