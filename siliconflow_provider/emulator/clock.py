"""The emulator's clock, which a caller may hold."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from siliconflow_provider.emulator.errors import ControlError


class Clock:
    """The time of a source, until it is held; then it stands still but for what it is advanced by."""

    def __init__(self, source: Callable[[], float]) -> None:
        self._source = source
        self._held: float | None = None
        self._lock = threading.Lock()

    def __call__(self) -> float:
        held = self._held
        return self._source() if held is None else held

    @property
    def is_held(self) -> bool:
        """Whether it stands still."""
        return self._held is not None

    def hold(self, at: float | None = None) -> float:
        """Stand still at a moment (Unix seconds), by default at the present one, which is returned."""
        with self._lock:
            self._held = self() if at is None else _checked("at", at)
            return self._held

    def advance(self, seconds: float) -> float:
        """Go forward and stand still there; returns the moment."""
        if _checked("seconds", seconds) < 0:
            raise ControlError("seconds: must be 0 or more; to go back, hold the clock at a moment")
        with self._lock:
            self._held = self() + seconds
            return self._held

    def release(self) -> float:
        """Go with the source again, from where that is by now; returns the moment."""
        with self._lock:
            self._held = None
            return self()


def _checked(field: str, number: float) -> float:
    if not math.isfinite(number):
        raise ControlError(f"{field}: must be a finite number of seconds, not {number}")
    return number
