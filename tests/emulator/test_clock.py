from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.emulator.clock import Clock
from siliconflow_provider.emulator.errors import ControlError

NOW = 1_800_000_000.25


def test_clock_follows_its_source_until_held(clock: Any) -> None:
    held = Clock(clock)
    assert (held(), held.is_held) == (NOW, False)
    clock.advance(1)
    assert held() == NOW + 1
    assert (held.hold(), held.is_held) == (NOW + 1, True)
    clock.advance(10)
    assert held() == NOW + 1
    assert (held.release(), held.is_held) == (NOW + 11, False)


def test_clock_can_be_held_and_advanced(clock: Any) -> None:
    held = Clock(clock)
    assert held.hold(1000) == 1000
    assert held.advance(0.5) == 1000.5
    assert held() == 1000.5


def test_advance_holds_a_running_clock(clock: Any) -> None:
    held = Clock(clock)
    assert held.advance(60) == NOW + 60
    clock.advance(1)
    assert held() == NOW + 60


@pytest.mark.parametrize(
    ("method", "number", "field"),
    [("hold", float("nan"), "at"), ("advance", float("inf"), "seconds"), ("advance", -1, "seconds")],
)
def test_invalid_number_is_named_and_changes_nothing(clock: Any, method: str, number: float, field: str) -> None:
    held = Clock(clock)
    with pytest.raises(ControlError, match=f"^{field}: must be"):
        getattr(held, method)(number)
    assert not held.is_held
