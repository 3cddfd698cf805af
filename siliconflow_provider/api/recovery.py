"""Long retries after a batch was created: an outage of less than an hour must not fail the task."""

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
    """Yield the seconds to wait after each failure. Yield None when `lasting` is over: the caller then gives up."""
    started, pause = clock.now(), first_pause
    while clock.now() - started < lasting:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)
    yield None


def is_retryable(error: Exception) -> bool:
    """Return True if a later retry is harmless and may succeed, also after a refused key or an error of a storage."""
    if isinstance(error, (CreateUncertainError, InvalidRequestError, AnswerTooLargeError)):
        return False
    return isinstance(error, (SiliconFlowError, OSError))
