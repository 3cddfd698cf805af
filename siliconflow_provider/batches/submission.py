"""What identifies a batch: whose it is and what it asks for, which travels in its own metadata."""

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

# Of a digest in hex: as much as a service must show of it.
SHORTEST_DIGEST = 16


def digest(*parts: str) -> str:
    """Return the SHA-256 (hex) of texts joined by NUL."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_digest(shown: str | None, expected: str) -> bool:
    """Whether metadata shows this digest, which the service may have cut."""
    if shown is None or shown == expected:
        return shown is not None
    return len(shown) >= SHORTEST_DIGEST and expected.startswith(shown)


@dataclass(frozen=True)
class Submission:
    """One batch that is wanted, and whose it is.

    :param key: what identifies the submitter, the same for every attempt
    :param key_without_deployment: what identified it before its Airflow was given a name; None where it has none
    :param content_sha256: the SHA-256 (hex) of the file's bytes, where it is known
    :param round: of a job that sends some requests again
    :param run_key: identifies the run that the submitter is part of
    :param label: the submitter for people, cut to the service's limit
    :param max_tries: Airflow's number for the task instance: automatic retries leave it, clearing changes it
    :param is_first_try: whether there was no attempt before this one
    :param is_cleared_try: whether a person started this attempt, by clearing the task
    :param run_started_at: of the DAG run; clearing a run that is over starts it again
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
    is_first_try: bool = False
    is_cleared_try: bool = False
    run_started_at: pendulum.DateTime | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All that may stand for the submitter in the metadata of its batches."""
        return (self.key,) if self.key_without_deployment is None else (self.key, self.key_without_deployment)

    @property
    def input_key(self) -> str:
        """Identifies what is asked: the file, the model, the endpoint and the window."""
        return self._input_key(self.content_sha256 or self.input_file_id)

    def _input_key(self, file: str) -> str:
        window = completion_window_text(self.completion_window)
        return digest(file, self.model or "", self.endpoint, window)

    def batch_metadata(self) -> dict[str, str]:
        """Return the metadata that the batch is created with.

        :raises InvalidRequestError: when the user's own metadata leaves no room or uses our prefix
        """
        ours = {
            AIRFLOW_KEY: self.key,
            AIRFLOW_RUN: self.run_key,
            AIRFLOW_INPUT: self.input_key,
            AIRFLOW_MAX_TRIES: str(self.max_tries),
            AIRFLOW_TASK: self.label.encode()[:MAXIMUM_METADATA_VALUE].decode(errors="ignore"),
        }
        if self.round is not None:
            ours[AIRFLOW_ROUND] = str(self.round)
        taken = [each for each in self.metadata if str(each).startswith(RESERVED_PREFIX)]
        if taken:
            raise InvalidRequestError(
                f"metadata has {first_names(map(repr, taken))}: keys that begin with {RESERVED_PREFIX!r} are kept "
                "for finding batches again, choose others"
            )
        room = MAXIMUM_METADATA_PAIRS - len(ours)
        if len(self.metadata) > room:
            raise InvalidRequestError(
                f"metadata has {len(self.metadata)} pairs: of the service's {MAXIMUM_METADATA_PAIRS}, "
                f"{len(ours)} are used for finding batches again, so give at most {room}"
            )
        metadata = {**self.metadata, **ours}
        check_metadata(metadata)
        return metadata

    def check(self) -> None:
        """Raise InvalidRequestError for what the service would refuse."""
        self.check_arguments()
        check_id("input_file_id", self.input_file_id)

    def check_arguments(self) -> None:
        """Raise InvalidRequestError for what it would refuse whatever the file is."""
        self.batch_metadata()
        check_endpoint(self.endpoint)
        if self.model is not None:
            check_id("model", self.model)

    def is_owner(self, batch: Batch) -> bool:
        """Whether this submitter created the batch, for whatever input."""
        return any(is_digest(batch.metadata.get(AIRFLOW_KEY), each) for each in self.keys)

    def matches(self, batch: Batch) -> bool:
        """Whether this batch was created for this submission."""
        if not self.is_owner(batch) or batch.metadata.get(AIRFLOW_ROUND) != (self.round and str(self.round)):
            return False
        # The content may not have been known, then or now: another id may stand for the same file.
        files = filter(None, (self.content_sha256, self.input_file_id))
        return any(is_digest(batch.metadata.get(AIRFLOW_INPUT), self._input_key(each)) for each in files)

    def is_of_same_file(self, batch: Batch) -> bool:
        """Whether the service shows that a batch has this submission's file."""
        if self.content_sha256 is not None and batch.file_name == file_name(self.content_sha256):
            return True
        return batch.input_file_id is not None and batch.input_file_id == self.input_file_id

    def may_be_of_same_file(self, item: Batch) -> bool:
        """Whether a listed batch may have this submission's file, as far as the list shows."""
        if self.is_of_same_file(item) or item.input_file_id is None:
            return True
        return self.content_sha256 is not None and item.file_name is None

    def changes_since(self, batch: Batch) -> list[str]:
        """Return the names of the arguments that differ from those that a batch of this submitter has."""
        changes = []
        if not self.is_of_same_file(batch):
            changes.append("input_file_id")
        if batch.completion_window not in (None, completion_window_text(self.completion_window)):
            changes.append("completion_window")
        return changes or ["model"]

    def created_since_last_clear(self, batch: Batch) -> bool:
        """Whether no person has cleared the task since this batch ended.

        What was cleared while the batch ran is no decision about how it ended: an automatic retry after that does not
        count as cleared.
        """
        return not (self.is_cleared_since_creation(batch) and self.may_start_over(batch.timing.ended_at))

    def is_cleared_since_creation(self, batch: Batch) -> bool:
        """Whether a person has cleared the task since this batch was created."""
        tries = str(batch.metadata.get(AIRFLOW_MAX_TRIES))
        return self.is_cleared_since(int(tries) if tries.isdecimal() else self.max_tries, batch.timing.created_at)

    def is_cleared_since(self, max_tries: int, moment: pendulum.DateTime | None) -> bool:
        """Whether a person has cleared the task since an attempt at a moment, with that `max_tries`.

        Clearing changes `max_tries`, or leaves it by chance where `retries` was changed too; then it shows by the
        attempt's number, and by the start of the run.
        """
        return max_tries != self.max_tries or (self.is_cleared_try and self._run_started_after(moment))

    def may_start_over(self, ended_at: pendulum.DateTime | None) -> bool:
        """Whether this attempt is one that a person has started, or one that follows a clear after this end."""
        return self.is_cleared_try or self._run_started_after(ended_at)

    def _run_started_after(self, moment: pendulum.DateTime | None) -> bool:
        return moment is not None and self.run_started_at is not None and self.run_started_at > moment


def batch_to_resume(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return the batch that this submission has, or None when one is to be created.

    That is the oldest one that runs or has completed. One that ended otherwise counts only until a person clears the
    task: its verdict is to be repeated, not bought again.
    """
    matching = oldest_first(filter(submission.matches, batches))
    # The oldest of the verdicts too: a younger one was cancelled in its favour.
    verdicts = filter(submission.created_since_last_clear, matching)
    return next(chain(filter(is_running_or_completed, matching), verdicts), None)


def batch_to_collect(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return the batch of a submission that counts, however it ended: the oldest that runs or has completed first."""
    matching = oldest_first(filter(submission.matches, batches))
    return next(chain(filter(is_running_or_completed, matching), matching), None)


def oldest_first(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches, the oldest first, as every attempt orders them."""
    return sorted(batches, key=lambda each: (str(each.timing.created_at), each.id))


def is_running(batch: Batch) -> bool:
    """Whether a batch can still be cancelled."""
    return not nothing_to_cancel(batch)


def is_running_or_completed(batch: Batch) -> bool:
    """Whether a batch answers, or has answered, its requests."""
    return is_running(batch) or batch.final_status == "completed"
