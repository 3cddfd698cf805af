"""All errors of this package, in one tree. Import the errors that you catch from this module.

BatchVerdictError (AirflowFailException)    a batch ended without completing; Airflow does not retry
├── BatchFailedError                    the service rejected the whole batch
├── BatchExpiredError                   the completion window ended before the batch did
└── BatchCancelledError                 the batch was cancelled
MissedSuccessRateError (AirflowFailException)   too few requests of a job succeeded; Airflow does not retry
RepeatedFailureError (AirflowFailException)     most of a round failed for one reason; Airflow does not retry
JobDefinitionError (AirflowFailException)   output_path holds a different job, or a broken one; Airflow does not retry
MaxCostError (AirflowFailException)     the job may cost more than max_cost; Airflow does not retry
InsufficientBalanceError (AirflowFailException)     the account has no charged balance; Airflow does not retry
InvalidInputError (AirflowFailException, ValueError)    the input cannot become requests; Airflow does not retry
InvalidTemplateError (AirflowFailException, ValueError)    an argument cannot be rendered; Airflow does not retry
OutputPathError (AirflowFailException)  output_path holds files of another task or of the user; Airflow does not retry
SubmissionStoppedError (AirflowFailException)   a submit could pay twice; Airflow does not retry
BatchWaitError (AirflowException)       the wait ended before the batch did; a retry resumes the wait
└── BatchTimeoutError (AirflowFailException)    the timeout ended the wait; Airflow does not retry
UnknownConnectionError (AirflowFailException, AirflowNotFoundException)    there is no such Airflow connection
SiliconFlowError                        the service or the way to it: base of the client's errors
├── InvalidRequestError (ValueError)    the request is invalid; nothing was sent
│   ├── InvalidArgumentError (AirflowFailException)     an argument of a task is invalid; Airflow does not retry
│   ├── InvalidConnectionError (AirflowFailException)   a field of the Airflow connection is missing or invalid
│   └── UnsafeAddressError              a download URL or a redirect is not allowed; nothing was sent to it
├── ServiceError                        the service answered with an error
│   ├── BadRequestError                 HTTP 400, another status from 300 to 499, or a 200 whose body reports an error
│   ├── AuthenticationError             HTTP 401: the API key is missing or wrong
│   │   └── KeyRefusedError (AirflowFailException)      the same in a task; Airflow does not retry with the same key
│   ├── PermissionDeniedError           HTTP 403: the API key is not allowed to do this
│   │   └── AccessRefusedError (AirflowFailException)   the same in a task; Airflow does not retry
│   ├── NotFoundError                   HTTP 404: the service does not know the id or the path
│   ├── RateLimitError                  HTTP 429: too many requests
│   └── ServerError                     HTTP 5xx, 408 or 425: the service failed; it may have executed the request
├── ConnectionFailedError               the request did not reach the service
│   ├── CertificateError                the server's TLS certificate is not valid
│   └── PlainHttpError                  the URL begins with https://, but the server speaks HTTP
├── AnswerLostError                     the request was sent, the response was lost: it may have been executed
│   ├── IncompleteBodyError             the response body ended too early
│   ├── UnreadableAnswerError           the response does not have the documented form
│   │   └── AnswerTooLargeError         the response is larger than any documented one
│   └── IncompleteListError             the service lists fewer batches than it has
└── CreateUncertainError                the response to a create was lost: a billed batch may exist
StorageError (OSError)                  a file or an object could not be read or written
└── MissingFileError (FileNotFoundError)    the file does not exist
InvalidRequestFileError (ValueError)    the input has invalid items; the message names the first of them
├── InputFileError                      a file is not in the format that its name says
└── TableError                          a table cannot be read as rows
ReuseError (ValueError)                 a directory of reuse_from cannot be used; operators raise InvalidInputError
InvalidItemError (ValueError)           one item cannot become a request; its text goes into InvalidRequestFileError
InvalidPricesError (ValueError)         prices have an unknown or missing key, or a price is not a number
└── UnreadablePricesError               the file of prices in an object storage cannot be read now
TokenizerError (ValueError)             the tokenizer.json cannot be loaded
JobFilesError (ValueError)              the files of a job do not fit together; operators raise JobDefinitionError
├── UnreadableFileError                 a file of a job has invalid content
└── OutputConflictError                    a file belongs to someone else; operators raise OutputPathError
CostLimitError (ValueError)             the job may cost more than it may; operators raise MaxCostError
NoBalanceError (ValueError)             no balance pays for batches; operators raise InsufficientBalanceError
RequestsLostError (ValueError)          a request file of a job is missing or was changed; it is not used
UnsafeSubmitError (ValueError)          the batch may exist already; operators raise SubmissionStoppedError
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
)

from siliconflow_provider.api.errors import AuthenticationError, InvalidRequestError, PermissionDeniedError

if TYPE_CHECKING:
    from siliconflow_provider.api.errors import (
        AnswerLostError,
        AnswerTooLargeError,
        BadRequestError,
        CertificateError,
        ConnectionFailedError,
        CreateUncertainError,
        IncompleteBodyError,
        IncompleteListError,
        NotFoundError,
        PlainHttpError,
        RateLimitError,
        ServerError,
        ServiceError,
        SiliconFlowError,
        UnreadableAnswerError,
        UnsafeAddressError,
    )
    from siliconflow_provider.batches import UnsafeSubmitError
    from siliconflow_provider.inputs import InputFileError, InvalidItemError, InvalidRequestFileError, TableError
    from siliconflow_provider.job_directory import JobFilesError, UnreadableFileError
    from siliconflow_provider.jobs import CostLimitError, NoBalanceError, RequestsLostError, ReuseError
    from siliconflow_provider.outputs import OutputConflictError
    from siliconflow_provider.pricing import InvalidPricesError, TokenizerError, UnreadablePricesError
    from siliconflow_provider.storage import MissingFileError, StorageError

__all__ = [
    "AccessRefusedError",
    "AnswerLostError",
    "AnswerTooLargeError",
    "AuthenticationError",
    "BadRequestError",
    "BatchCancelledError",
    "BatchExpiredError",
    "BatchFailedError",
    "BatchTimeoutError",
    "BatchVerdictError",
    "BatchWaitError",
    "CertificateError",
    "ConnectionFailedError",
    "CostLimitError",
    "CreateUncertainError",
    "IncompleteBodyError",
    "IncompleteListError",
    "InputFileError",
    "InsufficientBalanceError",
    "InvalidArgumentError",
    "InvalidConnectionError",
    "InvalidInputError",
    "InvalidItemError",
    "InvalidPricesError",
    "InvalidRequestError",
    "InvalidRequestFileError",
    "InvalidTemplateError",
    "JobDefinitionError",
    "JobFilesError",
    "KeyRefusedError",
    "MaxCostError",
    "MissedSuccessRateError",
    "MissingFileError",
    "NoBalanceError",
    "NotFoundError",
    "OutputConflictError",
    "OutputPathError",
    "PermissionDeniedError",
    "PlainHttpError",
    "RateLimitError",
    "RepeatedFailureError",
    "RequestsLostError",
    "ReuseError",
    "ServerError",
    "ServiceError",
    "SiliconFlowError",
    "StorageError",
    "SubmissionStoppedError",
    "TableError",
    "TokenizerError",
    "UnknownConnectionError",
    "UnreadableAnswerError",
    "UnreadableFileError",
    "UnreadablePricesError",
    "UnsafeAddressError",
    "UnsafeSubmitError",
]


class BatchVerdictError(AirflowFailException):
    """A batch ended without completing. Airflow does not retry, because a new batch costs money."""


class BatchFailedError(BatchVerdictError):
    """The service rejected the whole batch."""


class BatchExpiredError(BatchVerdictError):
    """The completion window ended before the batch did."""


class BatchCancelledError(BatchVerdictError):
    """The batch was cancelled."""


class MissedSuccessRateError(AirflowFailException):
    """Too few requests of a job succeeded. The results are written."""


class MaxCostError(AirflowFailException):
    """The job may cost more than `max_cost`. Answers so far are written; nothing more was submitted."""


class InsufficientBalanceError(AirflowFailException):
    """The account has no charged balance. Nothing was submitted."""


class RepeatedFailureError(AirflowFailException):
    """Most requests of a round failed for one reason, and another round would repeat it. The results are written."""


class InvalidInputError(AirflowFailException, ValueError):
    """The input cannot become requests. Nothing was submitted, and a retry would read the same input."""


class InvalidTemplateError(AirflowFailException, ValueError):
    """An argument of the task is not a valid Jinja template."""


class JobDefinitionError(AirflowFailException):
    """The directory holds a job that this task must not resume; nothing was submitted."""


class OutputPathError(AirflowFailException):
    """The output path holds files of the user or of another task. They are not overwritten."""


class SubmissionStoppedError(AirflowFailException):
    """A retry would submit a different batch, or one that may exist already."""


class BatchWaitError(AirflowException):
    """The wait ended before the batch did. A retry resumes the wait."""


class BatchTimeoutError(BatchWaitError, AirflowFailException):
    """The batch was still running at the timeout. Airflow does not retry: a retry would have the same deadline."""


class UnknownConnectionError(AirflowFailException, AirflowNotFoundException):
    """There is no Airflow connection with this id."""


class InvalidConnectionError(AirflowFailException, InvalidRequestError):
    """A field of the Airflow connection is missing or invalid."""


class InvalidArgumentError(AirflowFailException, InvalidRequestError):
    """An argument of an operator, a sensor or the decorator is invalid."""


class KeyRefusedError(AirflowFailException, AuthenticationError):
    """The service refused the API key of a task's connection. Clearing the task resumes its batches."""


class AccessRefusedError(AirflowFailException, PermissionDeniedError):
    """The charged balance is too low, or the API key lacks permission. Clearing the task resumes its batches."""


VERDICTS: dict[str | None, type[BatchVerdictError]] = {
    "failed": BatchFailedError,
    "expired": BatchExpiredError,
    "cancelled": BatchCancelledError,
}
_ERRORS_OF_MODULES = {
    "batches": ["UnsafeSubmitError"],
    "inputs": ["InputFileError", "InvalidItemError", "InvalidRequestFileError", "TableError"],
    "job_directory": ["JobFilesError", "UnreadableFileError"],
    "jobs": ["CostLimitError", "NoBalanceError", "RequestsLostError", "ReuseError"],
    "outputs": ["OutputConflictError"],
    "pricing": ["InvalidPricesError", "TokenizerError", "UnreadablePricesError"],
    "storage": ["MissingFileError", "StorageError"],
}

if not TYPE_CHECKING:  # A type checker would accept any name.

    def __getattr__(name: str) -> Any:
        """Return the error of another module, imported at its first use: DAG files import this module."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = next((module for module, names in _ERRORS_OF_MODULES.items() if name in names), "api.errors")
        return getattr(import_module(f"siliconflow_provider.{module}"), name)
