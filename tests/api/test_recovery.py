from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.api.errors import (
    AnswerLostError,
    AuthenticationError,
    CreateUncertainError,
    InvalidRequestError,
    PermissionDeniedError,
)
from siliconflow_provider.api.recovery import is_retryable, retry_pauses


def test_pauses_grow_and_end_after_an_hour(held_time: Any) -> None:
    started, pauses = held_time.now, []
    for pause in retry_pauses():
        if pause is None:
            break
        pauses.append(pause)
        held_time.advance(pause)
    assert pauses[:5] == [30, 60, 120, 240, 300]
    assert 3600 <= held_time.now - started < 3900


@pytest.mark.parametrize(
    ("error", "is_tried"),
    [
        (AuthenticationError(""), True),
        (PermissionDeniedError(""), True),
        (AnswerLostError(""), True),
        (OSError(5, "Input/output error"), True),
        (CreateUncertainError(""), False),
        (InvalidRequestError(""), False),
        (ValueError(""), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_retryable_errors(error: Exception, is_tried: bool) -> None:
    assert is_retryable(error) == is_tried
