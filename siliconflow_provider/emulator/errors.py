"""Errors of the emulator, and error responses in the service's forms."""

from __future__ import annotations

from typing import Any

BAD_REQUEST = 20012
NO_BALANCE = 30001  # not documented
NOT_FOUND = 20404  # not documented
TOO_MANY_BATCHES = 20429  # not documented
INTERNAL = 50000  # not documented


class EmulatorError(Exception):
    """The emulator cannot start or has invalid options. The message has the cause and the remedy."""


class ControlError(EmulatorError, ValueError):
    """A call of the control interface is invalid. The message has the allowed values."""


class MissingExtraError(ModuleNotFoundError):
    """A package is missing that only the emulator needs, not the provider."""

    def __init__(self, module: str | None) -> None:
        super().__init__(
            f"the emulator needs {module}, which is not installed:"
            " pip install 'airflow-provider-siliconflow[emulator]'",
            name=module,
        )


class ApiError(Exception):
    """An error response with `status` and the JSON `body`."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


def bad_request(field: str, message: str) -> ApiError:
    """Return a 400. Its `message` begins with the invalid field, its `data` is the field."""
    return ApiError(400, {"code": BAD_REQUEST, "message": f"{field}: {message}", "data": field})


def not_found(kind: str, object_id: str) -> ApiError:
    """Return a 404 for the id of a batch or file that does not exist or was deleted."""
    return ApiError(404, {"code": NOT_FOUND, "message": f"no {kind} has the id {object_id!r}", "data": None})


def insufficient_balance() -> ApiError:
    """Return a 403 for a batch that the account cannot pay."""
    return ApiError(403, {"code": NO_BALANCE, "message": "Sorry, your account balance is insufficient", "data": None})


def too_many_batches(most: int) -> ApiError:
    """Return a 429 for a batch that the account may not have beside those that are active."""
    message = f"too many active batches: at most {most}"
    return ApiError(429, {"code": TOO_MANY_BATCHES, "message": message, "data": None})


def invalid_token() -> ApiError:
    """Return a 401 for a missing or wrong key."""
    return ApiError(401, "Invalid token")


def unknown_path() -> ApiError:
    """Return a 404 for an unknown path or method."""
    return ApiError(404, "404 page not found")
