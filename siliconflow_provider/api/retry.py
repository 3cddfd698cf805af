"""Decide if a request is retried, and compute the pause. These functions do not sleep."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime

from siliconflow_provider.api.errors import (
    AnswerLostError,
    AnswerTooLargeError,
    CertificateError,
    ConnectionFailedError,
    PlainHttpError,
    RateLimitError,
    ServerError,
    SiliconFlowError,
)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 120.0
LONGEST_HEADER = 1_000


def should_retry(error: SiliconFlowError, *, idempotent: bool) -> bool:
    """Return True if a failed request may be retried.

    :param error: the failure
    :param idempotent: True if executing the request twice does no harm
    """
    if isinstance(error, (CertificateError, PlainHttpError, AnswerTooLargeError)):
        return False
    if isinstance(error, ConnectionFailedError):
        return True
    return idempotent and isinstance(error, (RateLimitError, ServerError, AnswerLostError))


def pause_before_retry(failures: int, retry_after: float | None, jitter: float) -> float:
    """Return the seconds to wait after a number of failures in a row.

    :param failures: 1 after the first failure
    :param retry_after: seconds that the service asked to wait, if it did; more than 120 count as 120
    :param jitter: a random number from 0 to 1, which shortens the pause by up to a half
    """
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER)
    longest = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE)
    return longest * (1 - jitter / 2)


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header, which may be a number or a date.

    :param now: the current time, with its time zone
    :returns: None if the header is missing or invalid
    """
    if not header or len(header) > LONGEST_HEADER:
        return None
    with suppress(ValueError):
        return max(0.0, float(header))
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now.timestamp())
    except (ValueError, OverflowError):
        return None
