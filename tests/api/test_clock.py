from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from siliconflow_provider.api import clock
from siliconflow_provider.api.clock import ServiceClock


@pytest.fixture
def service_clock(held_time: Any) -> ServiceClock:
    return ServiceClock()


@pytest.mark.parametrize(
    ("seconds", "difference"),
    [(0, 0), (59, 0), (-59, 0), (61, 61), (5 * 3600, 5 * 3600), (-5 * 3600, -5 * 3600), (29 * 86400, 29 * 86400)],
)
def test_date_that_differs_by_a_minute_is_used(service_clock: Any, seconds: int, difference: int) -> None:
    service_clock.note(format_datetime(clock.now().replace(microsecond=0) + timedelta(seconds=seconds)))
    assert (service_clock.now() - clock.now()).total_seconds() == pytest.approx(difference, abs=1)


FAR_OFF = ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]


@pytest.mark.parametrize("date", [None, "", "soon", *FAR_OFF, "Fri, 15 Jan 2027 13:00:00 -0000"])
def test_invalid_date_is_ignored(service_clock: ServiceClock, date: str | None) -> None:
    service_clock.note(format_datetime(clock.now().add(hours=2)))
    before = service_clock.now()
    service_clock.note(date)
    assert service_clock.now() == before


def test_clock_follows_the_last_date(service_clock: ServiceClock) -> None:
    service_clock.note(format_datetime(clock.now().add(hours=2)))
    service_clock.note(format_datetime(clock.now()))
    assert service_clock.now() == clock.now()


def test_date_of_another_origin_is_ignored(caller: Any, server: Any, storage: Any, batch_json: Any) -> None:
    """For example the date of an object storage."""
    server.redirects(f"{storage.origin}/batch").json(batch_json(), date=format_datetime(clock.now().add(hours=3)))
    storage.json(batch_json(), date=format_datetime(clock.now().add(hours=7)))
    caller.get_batch("batch_1")
    assert caller.now() == clock.now()
    caller.get_batch("batch_1")
    assert (caller.now() - clock.now()).total_seconds() == pytest.approx(3 * 3600, abs=1)
