"""Errors of the service and its client. `siliconflow_provider/exceptions.py` draws the tree of all errors."""

from __future__ import annotations

from typing import Any, Self

from siliconflow_provider.api.service_texts import cut_between_words, printable

LONGEST_MESSAGE = 4_000


class SiliconFlowError(Exception):
    """Base class of all errors of the service and its client.

    :param message: names the thing, the cause and the remedy; it is put on one line, and cut if it is too long
    :param status: HTTP status, if there was a response
    :param code: the service's own error code, such as 20012
    :param request_id: the service's trace id, for its support
    :param retry_after: seconds that the service asked to wait
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: int | str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__()
        self.reworded(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after

    def reworded(self, message: str) -> Self:
        """Return this error with another message."""
        self.message = cut_between_words(printable(message), LONGEST_MESSAGE)
        self.args = (self.message,)
        return self

    def with_advice(self, advice: str) -> Self:
        """Return this error with sentences of this package alone, on lines of their own."""
        self.message = f"{self.message}.\n{advice}"
        self.args = (self.message,)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The default pickling cannot pass keyword-only arguments, and errors are sent between processes.
        return type(self), (self.message,), self.__dict__

    def __str__(self) -> str:
        facts = [("status", self.status), ("code", self.code), ("request id", self.request_id)]
        known = ", ".join(f"{name} {value}" for name, value in facts if value is not None)
        return f"{self.message} ({known})" if known else self.message


class InvalidRequestError(SiliconFlowError, ValueError):
    """The request is invalid; nothing was sent."""


class UnsafeAddressError(InvalidRequestError):
    """A download URL or a redirect leads to a host that is not allowed; nothing was sent to it."""


class ServiceError(SiliconFlowError):
    """The service answered with an error."""


class BadRequestError(ServiceError):
    """The service refused the request."""


class AuthenticationError(ServiceError):
    """The API key is missing or wrong."""


class PermissionDeniedError(ServiceError):
    """The API key is not allowed to do this."""


class NotFoundError(ServiceError):
    """The service does not know this id or path."""


class RateLimitError(ServiceError):
    """The service received too many requests."""


class ServerError(ServiceError):
    """The service failed or timed out. It may have executed the request."""


class ConnectionFailedError(SiliconFlowError):
    """No connection could be opened: the request was not sent."""


class CertificateError(ConnectionFailedError):
    """The server's TLS certificate could not be verified."""


class PlainHttpError(ConnectionFailedError):
    """The URL begins with `https://`, but the server speaks HTTP."""


class AnswerLostError(SiliconFlowError):
    """The request was sent, but its response was lost. The service may have executed the request."""


class IncompleteBodyError(AnswerLostError):
    """A response body ended too early."""


class UnreadableAnswerError(AnswerLostError):
    """The response does not have the documented form."""


class AnswerTooLargeError(UnreadableAnswerError):
    """The response is larger than any response of the service. The rest was not read."""


class IncompleteListError(AnswerLostError):
    """The service says that it has more batches than it lists."""


class CreateUncertainError(SiliconFlowError):
    """The response to a create was lost or ambiguous: a billed batch may exist."""


ERROR_OF_STATUS: dict[int, type[ServiceError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    425: ServerError,
    429: RateLimitError,
}


def error_class(status: int) -> type[ServiceError]:
    """Return the error class of an HTTP status of 300 or higher."""
    if status >= 500:
        return ServerError
    return ERROR_OF_STATUS.get(status, BadRequestError)
