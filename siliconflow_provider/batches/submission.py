"""Identify a batch by its metadata: the task instance that submitted it, and the requests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain

import pendulum

from siliconflow_provider.api.durations import completion_window_text
from siliconflow_provider.api.errors import InvalidRequestError
from siliconflow_provider.api.limits import (
    MAXIMUM_METADATA_PAIRS,
    MAXIMUM_METADATA_VALUE,
    check_endpoint,
    check_id,
    check_metadata,
)
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.batches.cancellation import nothing_to_cancel
from siliconflow_provider.batches.content import file_name
from siliconflow_provider.batches.metadata import (
    AIRFLOW_INPUT,
    AIRFLOW_KEY,
    AIRFLOW_MAX_TRIES,
    AIRFLOW_ROUND,
    AIRFLOW_RUN,
    AIRFLOW_TASK,
    RESERVED_PREFIX,
)

# Number of hex characters that a shortened digest must have to count as a match.
SHORTEST_DIGEST = 16


def digest(*parts: str) -> str:
    """Return the SHA-256 (hex) of texts joined by NUL."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_digest(shown: str | None, expected: str) -> bool:
    """Return True if a value from metadata is this digest. The service may have shortened it."""
    if shown is None or shown == expected:
        return shown is not None
    return len(shown) >= SHORTEST_DIGEST and expected.startswith(shown)


@dataclass(frozen=True)
class Submission:
    """A batch to submit, and its submitter. The submitter is a task instance.

    :param key: identifies the submitter; the same for every attempt
    :param key_without_deployment: the key before the connection had a `deployment`; None if it has none now
    :param content_sha256: SHA-256 (hex) of the file's content, if known
    :param round: number of the job's round; None if the batch belongs to no job
    :param run_key: identifies the DAG run of the submitter
    :param label: readable name of the submitter, shortened to the service's limit
    :param max_tries: `max_tries` of the task instance: automatic retries do not change it, clearing does
    :param attempt: identifies the attempt, and stays the same over a deferral; None if it is unknown
    :param is_first_try: True if there was no earlier attempt
    :param is_cleared_try: True if a user started this attempt by clearing the task
    :param run_started_at: start of the DAG run; clearing a run that has ended restarts it
    """

    key: str
    input_file_id: str
    key_without_deployment: str | None = None
    endpoint: str = "/v1/chat/completions"
    completion_window: str | timedelta = "24h"
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    content_sha256: str | None = None
    round: int | None = None
    run_key: str = ""
    label: str = ""
    max_tries: int = 0
    attempt: str | None = None
    is_first_try: bool = False
    is_cleared_try: bool = False
    run_started_at: pendulum.DateTime | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Return all keys by which the submitter's batches may be marked."""
        return (self.key,) if self.key_without_deployment is None else (self.key, self.key_without_deployment)

    @property
    def input_key(self) -> str:
        """Return the key that identifies the file, the model, the endpoint and the completion window."""
        return self._input_key(self.content_sha256 or self.input_file_id)

    def _input_key(self, file: str) -> str:
        window = completion_window_text(self.completion_window)
        return digest(file, self.model or "", self.endpoint, window)

    def batch_metadata(self) -> dict[str, str]:
        """Return the metadata of the batch: the user's pairs and the provider's.

        :raises InvalidRequestError: if the user's metadata has too many pairs or uses the reserved prefix
        """
        own_pairs = {
            AIRFLOW_KEY: self.key,
            AIRFLOW_RUN: self.run_key,
            AIRFLOW_INPUT: self.input_key,
            AIRFLOW_MAX_TRIES: str(self.max_tries),
            AIRFLOW_TASK: self.label.encode()[:MAXIMUM_METADATA_VALUE].decode(errors="ignore"),
        }
        if self.round is not None:
            own_pairs[AIRFLOW_ROUND] = str(self.round)
        reserved = [name for name in self.metadata if str(name).startswith(RESERVED_PREFIX)]
        if reserved:
            raise InvalidRequestError(
                f"metadata has {first_names(map(repr, reserved))}: keys that begin with {RESERVED_PREFIX!r} are "
                "reserved for this provider; choose other keys"
            )
        available = MAXIMUM_METADATA_PAIRS - len(own_pairs)
        if len(self.metadata) > available:
            raise InvalidRequestError(
                f"metadata has {len(self.metadata):,} pairs: the service allows {MAXIMUM_METADATA_PAIRS}, and this "
                f"provider needs {len(own_pairs)} of them; give at most {available}"
            )
        metadata = {**self.metadata, **own_pairs}
        check_metadata(metadata)
        return metadata

    def check(self) -> None:
        """Raise InvalidRequestError if the service would reject the submission."""
        self.check_arguments()
        check_id("input_file_id", self.input_file_id)

    def check_arguments(self) -> None:
        """Raise InvalidRequestError if the service would reject the submission for a reason other than its file."""
        self.batch_metadata()
        check_endpoint(self.endpoint)
        if self.model is not None:
            check_id("model", self.model)

    def is_owner(self, batch: Batch) -> bool:
        """Return True if this submitter created the batch, with this or another input."""
        return any(is_digest(batch.metadata.get(AIRFLOW_KEY), key) for key in self.keys)

    def matches(self, batch: Batch) -> bool:
        """Return True if the batch was created for this submission."""
        if not self.is_owner(batch) or batch.metadata.get(AIRFLOW_ROUND) != (self.round and str(self.round)):
            return False
        # The batch is marked with the file id if the content was unknown when it was created.
        files = filter(None, (self.content_sha256, self.input_file_id))
        return any(is_digest(batch.metadata.get(AIRFLOW_INPUT), self._input_key(file)) for file in files)

    def is_of_same_file(self, batch: Batch) -> bool:
        """Return True if the batch certainly has this submission's file."""
        if self.content_sha256 is not None and batch.file_name == file_name(self.content_sha256):
            return True
        return batch.input_file_id is not None and batch.input_file_id == self.input_file_id

    def may_be_of_same_file(self, item: Batch) -> bool:
        """Return True if a listed batch may have this submission's file. A list item may lack the file."""
        if self.is_of_same_file(item) or item.input_file_id is None:
            return True
        return self.content_sha256 is not None and item.file_name is None

    def changes_since(self, batch: Batch) -> list[str]:
        """Return the names of the arguments that have changed since this submitter created a batch."""
        changes = []
        if not self.is_of_same_file(batch):
            changes.append("input_file_id")
        if batch.completion_window not in (None, completion_window_text(self.completion_window)):
            changes.append("completion_window")
        return changes or ["model"]

    def created_since_last_clear(self, batch: Batch) -> bool:
        """Return True if the task was not cleared since this batch ended.

        Clearing the task while the batch was running is no decision about its end: an automatic retry after that does
        not count as cleared.
        """
        return not (self.is_cleared_since_creation(batch) and self.may_start_over(batch.timing.ended_at))

    def is_cleared_since_creation(self, batch: Batch) -> bool:
        """Return True if the task was cleared since this batch was created."""
        tries = str(batch.metadata.get(AIRFLOW_MAX_TRIES))
        return self.is_cleared_since(int(tries) if tries.isdecimal() else self.max_tries, batch.timing.created_at)

    def is_cleared_since(self, max_tries: int, moment: pendulum.DateTime | None) -> bool:
        """Return True if the task was cleared since an earlier attempt.

        Clearing changes `max_tries`, unless `retries` was changed so that the sum is the same. In that case the try
        number and the start of the run reveal the clearing.

        :param max_tries: `max_tries` of the earlier attempt
        :param moment: time of the earlier attempt
        """
        return max_tries != self.max_tries or (self.is_cleared_try and self._run_started_after(moment))

    def may_start_over(self, ended_at: pendulum.DateTime | None) -> bool:
        """Return True if a user started this attempt, or cleared the run after a batch ended at `ended_at`."""
        return self.is_cleared_try or self._run_started_after(ended_at)

    def _run_started_after(self, moment: pendulum.DateTime | None) -> bool:
        return moment is not None and self.run_started_at is not None and self.run_started_at > moment


def batch_to_resume(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return the batch of this submission, or None if one must be created.

    This is the oldest batch that is running or has completed. A batch that ended with another status counts until the
    task is cleared: a retry reports the same status again instead of paying for a new batch.
    """
    matching = oldest_first(filter(submission.matches, batches))
    # Here too the oldest counts: a younger one was cancelled as its duplicate.
    verdicts = filter(submission.created_since_last_clear, matching)
    return next(chain(filter(is_running_or_completed, matching), verdicts), None)


def batch_to_collect(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return the batch of this submission whose results count, or None.

    This is the oldest batch that is running or has completed; if there is none, the oldest of the others.
    """
    matching = oldest_first(filter(submission.matches, batches))
    return next(chain(filter(is_running_or_completed, matching), matching), None)


def oldest_first(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches sorted by age, the oldest first. The order is the same in every attempt."""
    return sorted(batches, key=lambda batch: (str(batch.timing.created_at), batch.id))


def is_running(batch: Batch) -> bool:
    """Return True if a batch can still be cancelled."""
    return not nothing_to_cancel(batch)


def is_running_or_completed(batch: Batch) -> bool:
    """Return True if a batch is running or has completed."""
    return is_running(batch) or batch.final_status == "completed"
