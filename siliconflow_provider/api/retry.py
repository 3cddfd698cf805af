"""Whether to try again, and when. Nothing here sleeps."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime

from siliconflow_provider.api.errors import (
    AnswerLostError,
    AnswerTooLargeError,
    CertificateError,
    ConnectionFailedError,
    RateLimitError,
    ServerError,
    SiliconFlowError,
)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 120.0
LONGEST_HEADER = 1_000


def should_retry(error: SiliconFlowError, *, idempotent: bool) -> bool:
    """Say whether a failed request may be sent again.

    :param error: how it failed
    :param idempotent: whether carrying the request out twice does no harm
    """
    if isinstance(error, (CertificateError, AnswerTooLargeError)):
        return False
    if isinstance(error, ConnectionFailedError):
        return True
    return idempotent and isinstance(error, (RateLimitError, ServerError, AnswerLostError))


def pause_before_retry(failures: int, retry_after: float | None, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row.

    :param failures: 1 after the first failure
    :param retry_after: seconds that the service asked for, if it did; at most 120 are granted
    :param jitter: a random number from 0 to 1, which shortens the pause by up to a half
    """
    if retry_after is not None:
        return min(retry_after, LONGEST_RETRY_AFTER)
    longest = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE)
    return longest * (1 - jitter / 2)


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header, which may be a number or a date.

    :param now: the present moment, with its time zone
    :returns: None when the header is missing or says neither
    """
    if not header or len(header) > LONGEST_HEADER:
        return None
    # What is no number may be a date.
    with suppress(ValueError):
        return max(0.0, float(header))
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now.timestamp())
    except (ValueError, OverflowError):
        return None
