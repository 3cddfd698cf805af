"""Errors that a retry would only repeat, as errors that Airflow does not retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from airflow.providers.common.compat.sdk import AirflowFailException

from siliconflow_provider.api.errors import (
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    ServiceError,
)
from siliconflow_provider.api.limits import check_id
from siliconflow_provider.api.remedies import LINK_REMEDIES
from siliconflow_provider.exceptions import (
    AccessRefusedError,
    InsufficientBalanceError,
    InvalidArgumentError,
    InvalidInputError,
    JobDefinitionError,
    KeyRefusedError,
    MaxCostError,
    OutputPathError,
    SubmissionStoppedError,
)

Method = TypeVar("Method", bound=Callable[..., Any])
NOT_RETRIED = (
    "Airflow does not retry this task.\nWhen this is corrected, clear it: it resumes the batches that it has "
    "submitted, and submits none of them again"
)


def final_if_refused(method: Method) -> Method:
    """Decorate a method of an operator or sensor: if the service refuses the key, Airflow does not retry the task.

    It does if the connection has another key by now, since a retry uses that.
    """

    @wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (AuthenticationError, PermissionDeniedError) as error:
            if isinstance(error, AirflowFailException) or _is_of_link(error) or not self.hook.has_current_key():
                raise
            failure = _final(error)
        # Raised outside of the handler: the traceback shows one error, not two.
        raise failure

    return cast(Method, run)


@contextmanager
def errors_of_job() -> Iterator[None]:
    """Raise the errors of a job as those of its task, which Airflow does not retry."""
    from siliconflow_provider.batches import UnsafeSubmitError
    from siliconflow_provider.inputs import InvalidRequestFileError
    from siliconflow_provider.job_directory import JobFilesError
    from siliconflow_provider.jobs import CostLimitError, NoBalanceError, ReuseError
    from siliconflow_provider.outputs import OutputConflictError

    kinds: dict[type[Exception], type[AirflowFailException]] = {
        InvalidRequestFileError: InvalidInputError,
        ReuseError: InvalidInputError,
        CostLimitError: MaxCostError,
        NoBalanceError: InsufficientBalanceError,
        OutputConflictError: OutputPathError,
        JobFilesError: JobDefinitionError,
        UnsafeSubmitError: SubmissionStoppedError,
    }
    try:
        yield
    except tuple(kinds) as error:
        kind = next(kind for known, kind in kinds.items() if isinstance(error, known))
        raise kind(str(error)) from None


@contextmanager
def invalid_arguments() -> Iterator[None]:
    """Raise InvalidArgumentError if an argument of the task is invalid."""
    try:
        yield
    except InvalidRequestError as error:
        if isinstance(error, AirflowFailException):
            raise
        failure = InvalidArgumentError(error.message)
    else:
        return
    raise failure


def check_argument_id(name: str, value: Any) -> None:
    """Raise InvalidArgumentError if an argument cannot be the id of a file or a batch."""
    with invalid_arguments():
        check_id(name, value)


def is_refusal(error: Exception | None) -> bool:
    """Return True if the service has refused the key, or what it asks for."""
    return isinstance(error, (AuthenticationError, PermissionDeniedError))


def _is_of_link(error: ServiceError) -> bool:
    """Return True for a signed URL of a result file. It carries no key, and a retry gets a new one."""
    return LINK_REMEDIES[error.status or 401] in error.message


def _final(error: ServiceError) -> ServiceError:
    kind = KeyRefusedError if isinstance(error, AuthenticationError) else AccessRefusedError
    final = kind(error.message, status=error.status, code=error.code, request_id=error.request_id)
    return final.with_advice(NOT_RETRIED)
