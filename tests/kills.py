"""Deaths of a worker, which no code survives."""

from __future__ import annotations


class Killed(BaseException):
    """The worker dies."""
