"""Errors that a task ends with. Those of the service are in `api/errors.py`, those of files in `storage_errors.py`.

BatchVerdictError (AirflowFailException)    the service is through with the batch; a retry would buy it again
├── BatchFailedError
├── BatchExpiredError
└── BatchCancelledError
MissedSuccessRateError (AirflowFailException)   a job is over, and too few requests have a good answer
JobDefinitionError (AirflowFailException)   the job in the directory is another one than the task asks for
OutputPathError (AirflowFailException)      output_path has files that this task instance has not written
SubmissionStoppedError (AirflowFailException)   a batch may be there already, and is not submitted again
BatchWaitError (AirflowException)           the wait ended before the batch did; a retry takes the batch over
└── BatchTimeoutError (AirflowFailException)    ... at its deadline, which a retry does not move
InvalidConnectionError (AirflowException)   a field of the Airflow connection cannot be used
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class BatchVerdictError(AirflowFailException):
    """A batch ended without having completed. Airflow does not retry it: a person decides, by clearing."""


class BatchFailedError(BatchVerdictError):
    """The service refused the batch as a whole."""


class BatchExpiredError(BatchVerdictError):
    """The completion window was over before the batch was."""


class BatchCancelledError(BatchVerdictError):
    """Somebody cancelled the batch."""


class MissedSuccessRateError(AirflowFailException):
    """Too few requests of a job have a good answer. What was answered is written."""


class JobDefinitionError(AirflowFailException):
    """The directory holds a job that this task must not continue; nothing was submitted."""


class OutputPathError(AirflowFailException):
    """Files of the user or of another task are where this one writes. They are not overwritten: a person decides."""


class SubmissionStoppedError(AirflowFailException):
    """A retry would submit something else than the task's batch, or one that may be there already."""


class BatchWaitError(AirflowException):
    """Waiting ended without the batch having ended."""


class BatchTimeoutError(BatchWaitError, AirflowFailException):
    """The batch was not over at the deadline. Airflow does not retry it, since the deadline would be the same."""


class InvalidConnectionError(AirflowException, ValueError):
    """The Airflow connection lacks something, or has a field that cannot be used."""


VERDICTS: dict[str | None, type[BatchVerdictError]] = {
    "failed": BatchFailedError,
    "expired": BatchExpiredError,
    "cancelled": BatchCancelledError,
}
