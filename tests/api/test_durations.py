from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.durations import completion_window_text, format_duration, parse_completion_window
from siliconflow_provider.api.errors import InvalidRequestError

ACCEPTED: list[tuple[Any, str]] = [
    ("24h", "24h"),
    ("336h", "336h"),
    (timedelta(days=1), "24h"),
    (timedelta(days=14), "336h"),
    (timedelta(hours=25), "25h"),
    (pendulum.duration(days=2), "48h"),
    (pendulum.duration(weeks=1, hours=1), "169h"),
]
REFUSED: list[Any] = [
    "12h",
    "23h",
    "337h",
    "24",
    "24 h",
    " 24h",
    "24H",
    "24h ",
    "1d",
    "-24h",
    "24.0h",
    "h",
    "",
    "²⁴h",
    "٢٤h",
    "9" * 400 + "h",
    timedelta(minutes=90),
    timedelta(hours=24, minutes=30),
    timedelta(days=1, microseconds=1),
    timedelta(days=15),
    timedelta(days=-1),
    pendulum.duration(days=1, minutes=1),
    24,
    24.0,
    1.5,
    None,
]


@pytest.mark.parametrize(("window", "text"), ACCEPTED)
def test_whole_hours_become_the_services_form(window: Any, text: str) -> None:
    assert completion_window_text(window) == text
    assert parse_completion_window(window) == timedelta(hours=int(text[:-1]))


@pytest.mark.parametrize("window", REFUSED)
def test_invalid_window_is_named_with_its_limits(window: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        completion_window_text(window)
    shown = repr(window) if isinstance(window, str) else str(window)
    assert str(caught.value) == (
        f"completion_window {shown} is not accepted by the service: give 24 to 336 whole hours, "
        "as '24h' or timedelta(hours=24)"
    )


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (7.4, "7s"),
        (59.6, "1m 0s"),
        (760, "12m 40s"),
        (3600, "1h 0m 0s"),
        (86_400, "1d 0h 0m"),
        (timedelta(days=2, hours=3, seconds=59), "2d 3h 0m"),
        (pendulum.duration(minutes=12, seconds=40), "12m 40s"),
        (-90, "-1m 30s"),
        (timedelta(seconds=-7), "-7s"),
    ],
)
def test_duration_is_formatted_for_people(length: Any, text: str) -> None:
    assert format_duration(length) == text
