"""Give finish reasons and errors small codes, so that a request needs few bytes. Rare values are counted together."""

from __future__ import annotations

from siliconflow_provider.api.service_texts import word
from siliconflow_provider.outputs.answers import TOO_LONG, TRUNCATED, UNREADABLE, AnswerError

# Codes of errors that the request itself causes: a resend would fail too. Codes of the service and of OpenAI's API.
LASTING_CODES = frozenset(
    {"400", "20012", "20024", "invalid_request", "invalid_request_error", "context_length_exceeded", TRUNCATED}
)
# A status from 400 to 499 is a refusal of the request itself, except for these.
_TEMPORARY_STATUSES = frozenset({408, 409, 425, 429})
RESULTS_LOST = "results_lost"
# Such an answer may be billed: resend its request only if a person clears the task.
_HELD_CODES = frozenset({RESULTS_LOST, TOO_LONG, UNREADABLE})
# Messages that name their own request are all different; above this number they are counted together.
DISTINCT_ERRORS = 1_000
# A code has one byte; one code is reserved for `other`.
DISTINCT_REASONS = 254


class FinishReasons:
    """Finish reasons by code; code 0 is none."""

    def __init__(self) -> None:
        self.names: list[str | None] = [None]
        self._codes: dict[str | None, int] = {None: 0}

    def code_of(self, reason: str | None) -> int:
        """Return the code of a finish reason."""
        code = self._codes.get(reason)
        if code is None and reason is not None:
            reason = word(reason)
            code = self._codes.get(reason)
        if code is None and len(self.names) >= DISTINCT_REASONS:
            reason = "other"
            code = self._codes.get(reason)
        if code is None:
            code = self._codes[reason] = len(self.names)
            self.names.append(reason)
        return code


class DistinctErrors:
    """Errors by code; code 0 is none."""

    def __init__(self) -> None:
        self.errors: list[AnswerError | None] = [None]
        self._codes: dict[tuple[str | None, str, int | None], int] = {}

    def code_of(self, error: AnswerError | None) -> int:
        """Return the code of an error."""
        if error is None:
            return 0
        code = self._codes.get((error.code, error.message, error.status))
        if code is None and len(self.errors) > DISTINCT_ERRORS:
            is_known = error.code in LASTING_CODES | _HELD_CODES or len(self.errors) <= 2 * DISTINCT_ERRORS
            error = AnswerError(error.code if is_known else "other", "other messages", error.status)
            code = self._codes.get((error.code, error.message, error.status))
        if code is None:
            code = self._codes[error.code, error.message, error.status] = len(self.errors)
            self.errors.append(error)
        return code

    def lasting(self, *, is_cleared: bool) -> set[int]:
        """Return the codes of errors whose requests are not worth resending.

        :param is_cleared: True if a person has cleared the task: lost requests are resent too
        """
        held_codes = LASTING_CODES if is_cleared else LASTING_CODES | _HELD_CODES
        return {
            code
            for code, error in enumerate(self.errors)
            if error is not None and (error.code in held_codes or is_refusal(error.status))
        }


def is_refusal(status: int | None) -> bool:
    """Return True if a status says that the request itself is refused, so that a resend would be refused too."""
    return status is not None and 400 <= status < 500 and status not in _TEMPORARY_STATUSES
