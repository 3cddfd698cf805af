"""Errors in the forms in which the service answers them."""

from __future__ import annotations

from typing import Any

BAD_REQUEST = 20012
NO_BALANCE = 30001  # not documented
NOT_FOUND = 20404  # not documented
INTERNAL = 50000  # not documented


class EmulatorError(Exception):
    """The emulator cannot do what it was asked to; the message says why and what to do."""


class ControlError(EmulatorError, ValueError):
    """Something was asked of the control interface that it cannot do; the message says what it can."""


class MissingExtraError(ModuleNotFoundError):
    """A package is missing that the emulator needs and the provider itself does not."""

    def __init__(self, module: str | None) -> None:
        super().__init__(
            f"the emulator needs {module}, which is not installed:"
            " pip install 'airflow-provider-siliconflow[emulator]'",
            name=module,
        )


class ApiError(Exception):
    """A request that is answered with `status` and the JSON `body`."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


def bad_request(field: str, message: str) -> ApiError:
    """A 400 whose `message` begins with the field at fault; `data` is the field alone."""
    return ApiError(400, {"code": BAD_REQUEST, "message": f"{field}: {message}", "data": field})


def not_found(kind: str, object_id: str) -> ApiError:
    """A 404 for an id of a batch or file that does not exist, or does no longer."""
    return ApiError(404, {"code": NOT_FOUND, "message": f"no {kind} has the id {object_id!r}", "data": None})


def insufficient_balance() -> ApiError:
    """The 403 of a batch that the account cannot pay."""
    return ApiError(403, {"code": NO_BALANCE, "message": "Sorry, your account balance is insufficient", "data": None})


def invalid_token() -> ApiError:
    """The 401 of a missing or wrong key."""
    return ApiError(401, "Invalid token")


def unknown_path() -> ApiError:
    """The 404 of a path, or of a method on a path, that the service does not have."""
    return ApiError(404, "404 page not found")
