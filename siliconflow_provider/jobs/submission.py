"""Submissions that are made once: what a batch is for travels in its own metadata."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
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

log = logging.getLogger(__name__)

RESERVED_PREFIX = "airflow_"
RETENTION = timedelta(days=30)


def digest(*parts: str) -> str:
    """Return the SHA-256 (hex) of texts joined by NUL."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Submission:
    """One batch that is wanted, and whose it is.

    :param key: what identifies the submitter, the same for every attempt
    :param run: identifies the run that the submitter is part of
    :param label: the submitter for people, cut to the service's limit
    :param max_tries: the submitter's tries at the creation; they grow when a person lets it start over
    """

    key: str
    input_file_id: str
    endpoint: str = "/v1/chat/completions"
    completion_window: str | timedelta = "24h"
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    label: str = ""
    max_tries: int = 0

    @property
    def input_key(self) -> str:
        """Identifies what is asked: the file, the model, the endpoint and the window."""
        window = completion_window_text(self.completion_window)
        return digest(self.input_file_id, self.model or "", self.endpoint, window)

    def batch_metadata(self) -> dict[str, str]:
        """Return the metadata that the batch is created with.

        :raises InvalidRequestError: when the user's own metadata leaves no room or uses our prefix
        """
        ours = {
            "airflow_key": self.key,
            "airflow_run": self.run,
            "airflow_input": self.input_key,
            "airflow_max_tries": str(self.max_tries),
            "airflow_task": self.label.encode()[:MAXIMUM_METADATA_VALUE].decode(errors="ignore"),
        }
        taken = [each for each in self.metadata if str(each).startswith(RESERVED_PREFIX)]
        if taken:
            raise InvalidRequestError(
                f"metadata has {', '.join(map(repr, taken))}: keys that begin with {RESERVED_PREFIX!r} are kept "
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

    def matches(self, batch: Batch) -> bool:
        """Whether this batch was created for this submission."""
        found = (batch.metadata.get("airflow_key"), batch.metadata.get("airflow_input"))
        return found == (self.key, self.input_key)

    def is_same_grant(self, batch: Batch) -> bool:
        """Whether nobody has let the submitter start over since it created this batch."""
        tries = str(batch.metadata.get("airflow_max_tries"))
        return tries.isdecimal() and int(tries) >= self.max_tries


def find_batch(client: SiliconFlowClient, submission: Submission) -> Batch | None:
    """Return the batch that this submission has, or None when one is to be created.

    That is the oldest one that runs or has completed. One that ended otherwise counts only until a person lets the
    submitter start over: its verdict is to be repeated, not bought again.
    """
    matching = [each for each in _candidates(client, submission) if submission.matches(each)]
    matching.sort(key=lambda each: (str(each.timing.created_at), each.id))
    good = [each for each in matching if _runs_or_completed(each)]
    verdicts = [each for each in matching if not _runs_or_completed(each) and submission.is_same_grant(each)]
    return next(iter([*good, *reversed(verdicts)]), None)


def find_or_create_batch(client: SiliconFlowClient, submission: Submission) -> Batch:
    """Return the submission's batch where there is one, as `find_batch` says, and create it otherwise.

    :raises InvalidRequestError: when the service would refuse it; nothing was sent
    :raises CreateUncertainError: when the create's answer was lost; the next attempt finds the batch if there is one
    """
    metadata = submission.batch_metadata()
    check_endpoint(submission.endpoint)
    check_id("input_file_id", submission.input_file_id)
    if submission.model is not None:
        check_id("model", submission.model)
    existing = find_batch(client, submission)
    if existing is not None:
        log.info("found batch %s (%s), which an earlier attempt created", existing.id, existing.status)
        return existing
    batch = client.create_batch(
        submission.input_file_id,
        endpoint=submission.endpoint,
        completion_window=submission.completion_window,
        metadata=metadata,
        model=submission.model,
    )
    log.info("created batch %s of file %s (%s)", batch.id, submission.input_file_id, batch.status)
    return batch


def recent_batches(client: SiliconFlowClient) -> Iterator[Batch]:
    """Yield the account's batches of the time for which the service keeps results, newest first."""
    oldest = clock.now() - RETENTION
    for item in client.list_batches():
        if item.timing.created_at is not None and item.timing.created_at < oldest:
            return
        yield item


def _candidates(client: SiliconFlowClient, submission: Submission) -> Iterator[Batch]:
    for item in recent_batches(client):
        if item.metadata:
            # Which one is the oldest is told by its time, and some list items come without.
            is_undated = submission.matches(item) and item.timing.created_at is None
            yield client.get_batch(item.id) if is_undated else item
        elif item.input_file_id in (None, submission.input_file_id):
            # Some list items come without metadata; the single batch has it.
            yield client.get_batch(item.id)


def _runs_or_completed(batch: Batch) -> bool:
    return batch.final_status in (None, "completed") and batch.status != "cancelling"
