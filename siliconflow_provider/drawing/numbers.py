"""Format numbers, shares and times for pages. An unknown value is a dash."""

from __future__ import annotations

from datetime import UTC, datetime

UNKNOWN = "–"


def number(value: int | None) -> str:
    """Return an integer with thousands separators."""
    return UNKNOWN if value is None else f"{value:,}"


def share(part: int | None, whole: int | None) -> str:
    """Return a share, such as `98.5%`. It is rounded down, so that only all is `100%`."""
    if part is None or not whole or whole < 0:
        return UNKNOWN
    return f"{part * 1000 // whole / 10:,.1f}".removesuffix(".0") + "%"


def utc(moment: datetime | None) -> str:
    """Return a time, such as `2026-05-01 12:30:00 UTC`. A time without a zone is taken as UTC."""
    if moment is None:
        return UNKNOWN
    try:
        return f"{datetime.fromtimestamp(seconds_of(moment) // 1, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        # Year 1 or 9999, and in UTC beyond it.
        return UNKNOWN


def seconds_of(moment: datetime) -> float:
    """Return a time in Unix seconds. A time without a zone is taken as UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
