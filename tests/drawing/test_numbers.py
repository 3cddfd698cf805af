"""Numbers, shares and times of pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from siliconflow_provider.drawing.numbers import number, share, utc


def test_numbers_have_thousands_separators() -> None:
    assert (number(0), number(1_234_567), number(None)) == ("0", "1,234,567", "–")


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 3, "0%"),
        (1, 3, "33.3%"),
        (3, 3, "100%"),
        (9_999, 10_000, "99.9%"),
        (1, 0, "–"),
        (None, 3, "–"),
        (1, None, "–"),
    ],
)
def test_only_all_is_a_hundred_percent(part: int | None, whole: int | None, shown: str) -> None:
    assert share(part, whole) == shown


def test_times_are_shown_in_utc() -> None:
    moment = datetime(2026, 5, 1, 14, 30, 0, 999_999, timezone(timedelta(hours=2)))
    assert utc(moment) == utc(datetime(2026, 5, 1, 12, 30)) == "2026-05-01 12:30:00 UTC"
    assert utc(None) == "–"


def test_times_beyond_the_calendar_are_unknown() -> None:
    assert utc(datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))) == "–"
    assert utc(datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))) == "–"
    assert utc(datetime(9999, 12, 31, tzinfo=UTC)) == "9999-12-31 00:00:00 UTC"
