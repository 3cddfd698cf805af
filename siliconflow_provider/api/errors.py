"""Errors of the service and its client. `siliconflow_provider/exceptions.py` draws the tree of all errors."""

from __future__ import annotations

from typing import Any, Self

from siliconflow_provider.api.service_texts import cut_between_words, printable

LONGEST_MESSAGE = 4_000


class SiliconFlowError(Exception):
    """Base of all errors of the service and its client.

    :param message: a sentence that names the thing, the cause and the remedy; what the service says in it is shown on
        one line, and not whole where it is too long
    :param status: HTTP status, if there was an answer
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

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors cross processes.
        return type(self), (self.message,), self.__dict__

    def __str__(self) -> str:
        facts = [("status", self.status), ("code", self.code), ("request id", self.request_id)]
        known = ", ".join(f"{name} {value}" for name, value in facts if value is not None)
        return f"{self.message} ({known})" if known else self.message


class InvalidRequestError(SiliconFlowError, ValueError):
    """An argument that the service would refuse; nothing was sent."""


class UnsafeAddressError(InvalidRequestError):
    """A result's URL, or a redirect, leads to where no results may come from; nothing was sent there."""


class ServiceError(SiliconFlowError):
    """The service answered, and the answer is an error."""


class BadRequestError(ServiceError):
    """The service does not accept the request as it is."""


class AuthenticationError(ServiceError):
    """The API key is missing or wrong."""


class PermissionDeniedError(ServiceError):
    """The API key may not do this."""


class NotFoundError(ServiceError):
    """The service does not know this id or path."""


class RateLimitError(ServiceError):
    """Too many requests."""


class ServerError(ServiceError):
    """The service failed, or gave up waiting; the request may have been carried out all the same."""


class ConnectionFailedError(SiliconFlowError):
    """No connection came about: the request was not sent."""


class CertificateError(ConnectionFailedError):
    """The server's TLS certificate could not be verified."""


class AnswerLostError(SiliconFlowError):
    """The request was sent and no answer came: it may have been carried out."""


class IncompleteBodyError(AnswerLostError):
    """A body ended before its promised length."""


class UnreadableAnswerError(AnswerLostError):
    """The answer has a form that the service does not document."""


class AnswerTooLargeError(UnreadableAnswerError):
    """The answer is larger than any that the service gives; the rest of it was not read."""


class IncompleteListError(AnswerLostError):
    """The service says that it has more batches, and does not list them."""


class CreateUncertainError(SiliconFlowError):
    """The answer to a create was lost: a batch may exist and cost money."""


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
    """Return the kind of error that an HTTP status of 300 and above stands for."""
    if status >= 500:
        return ServerError
    return ERROR_OF_STATUS.get(status, BadRequestError)
