"""The emulator's clock, which tests can hold and advance."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from siliconflow_provider.emulator.errors import ControlError


class Clock:
    """A clock that follows its source until it is held. A held clock changes only by `hold` and `advance`."""

    def __init__(self, source: Callable[[], float]) -> None:
        self._source = source
        self._held: float | None = None
        self._lock = threading.Lock()

    def __call__(self) -> float:
        held = self._held
        return self._source() if held is None else held

    @property
    def is_held(self) -> bool:
        """True if the clock is held."""
        return self._held is not None

    def hold(self, at: float | None = None) -> float:
        """Hold the clock at a time (Unix seconds), by default the current one, and return that time."""
        with self._lock:
            self._held = self() if at is None else _checked("at", at)
            return self._held

    def advance(self, seconds: float) -> float:
        """Advance the clock, hold it there, and return the time."""
        if _checked("seconds", seconds) < 0:
            raise ControlError("seconds: must be 0 or more; to go back, hold the clock at an earlier time")
        with self._lock:
            self._held = self() + seconds
            return self._held

    def release(self) -> float:
        """Follow the source again, and return its current time."""
        with self._lock:
            self._held = None
            return self()


def _checked(field: str, number: float) -> float:
    if not math.isfinite(number):
        raise ControlError(f"{field}: must be a finite number of seconds, not {number}")
    return number
