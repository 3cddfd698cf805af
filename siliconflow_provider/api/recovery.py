"""Trying again once a batch is paid for: what heals within an hour must not fail the task."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from siliconflow_provider.api import clock
from siliconflow_provider.api.errors import (
    AnswerTooLargeError,
    CreateUncertainError,
    InvalidRequestError,
    SiliconFlowError,
)

GIVE_UP_AFTER = timedelta(hours=1)
SHORTEST_PAUSE, LONGEST_PAUSE = 30.0, 300.0


def retry_pauses(lasting: timedelta = GIVE_UP_AFTER, first_pause: float = SHORTEST_PAUSE) -> Iterator[float | None]:
    """Yield the seconds to wait after each failure; None once it has lasted so long, after which the failure counts."""
    started, pause = clock.now(), first_pause
    while clock.now() - started < lasting:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)
    yield None


def is_retryable(error: Exception) -> bool:
    """Whether what failed may go well later, without harm: also a refused key, an empty account, or a storage."""
    if isinstance(error, (CreateUncertainError, InvalidRequestError, AnswerTooLargeError)):
        return False
    return isinstance(error, (SiliconFlowError, OSError))
