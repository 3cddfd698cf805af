from __future__ import annotations

from datetime import UTC, datetime

import pytest

from siliconflow_provider.api import errors
from siliconflow_provider.api.retry import parse_retry_after, pause_before_retry, should_retry

NOW = datetime(2027, 1, 15, 8, 0, 0, tzinfo=UTC)

ALWAYS = [errors.ConnectionFailedError]
WHERE_REPEATABLE = [
    errors.RateLimitError,
    errors.ServerError,
    errors.AnswerLostError,
    errors.IncompleteBodyError,
    errors.UnreadableAnswerError,
]
NEVER = [
    errors.SiliconFlowError,
    errors.InvalidRequestError,
    errors.BadRequestError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.NotFoundError,
    errors.CertificateError,
    errors.PlainHttpError,
    errors.CreateUncertainError,
]


@pytest.mark.parametrize("kind", ALWAYS)
def test_unexecuted_request_is_retried(kind: type[errors.SiliconFlowError]) -> None:
    assert [should_retry(kind("x"), idempotent=idempotent) for idempotent in (True, False)] == [True, True]


@pytest.mark.parametrize("kind", WHERE_REPEATABLE)
def test_possibly_executed_request_is_retried_if_idempotent(
    kind: type[errors.SiliconFlowError],
) -> None:
    assert [should_retry(kind("x"), idempotent=idempotent) for idempotent in (True, False)] == [True, False]


@pytest.mark.parametrize("kind", NEVER)
def test_permanent_error_is_not_retried(kind: type[errors.SiliconFlowError]) -> None:
    assert [should_retry(kind("x"), idempotent=idempotent) for idempotent in (True, False)] == [False, False]


@pytest.mark.parametrize(
    ("jitter", "pauses"),
    [
        (0.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (0.5, [0.375, 0.75, 1.5, 3, 6, 12, 22.5, 22.5]),
        (1.0, [0.25, 0.5, 1, 2, 4, 8, 15, 15]),
    ],
)
def test_pauses_double_to_a_limit_with_jitter(jitter: float, pauses: list[float]) -> None:
    assert [pause_before_retry(failures, None, jitter) for failures in range(1, 9)] == pauses
    assert pause_before_retry(10_000, None, jitter) == pauses[-1]


@pytest.mark.parametrize(("retry_after", "pause"), [(0, 0), (7.5, 7.5), (120, 120), (3600, 120), (float("inf"), 120)])
def test_retry_after_is_limited_to_two_minutes(retry_after: float, pause: float) -> None:
    assert pause_before_retry(5, retry_after, 0.5) == pause


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("0", 0),
        ("-3", 0),
        ("nan", 0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30),
        ("Fri, 15 Jan 2027 10:00:30 +0200", 30),
        ("Fri, 15 Jan 2027 07:59:00 GMT", 0),
        ("soon", None),
        ("Fri, 99 Jan 2027 08:00:00 GMT", None),
        ("Fri, 15 Jan 99999999999999999999 08:00:00 GMT", None),
        ("1e999", float("inf")),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_is_parsed_in_every_form(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds
