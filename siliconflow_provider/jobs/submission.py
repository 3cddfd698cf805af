"""Submissions that are made once: what a batch is for travels in its own metadata."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.durations import completion_window_text
from siliconflow_provider.api.errors import CreateUncertainError, InvalidRequestError
from siliconflow_provider.api.limits import (
    MAXIMUM_METADATA_PAIRS,
    MAXIMUM_METADATA_VALUE,
    check_endpoint,
    check_id,
    check_metadata,
)
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.cancellation import cancel_unless_over, has_ended

log = logging.getLogger(__name__)

RESERVED_PREFIX = "airflow_"
RETENTION = timedelta(days=30)
# A list that lags longer than this can hide another attempt's batch.
SETTLING_SECONDS = 5.0
LOOK_PAUSES = (2.0, 4.0, 8.0)
MOST_CREATES = 3


def digest(*parts: str) -> str:
    """Return the SHA-256 (hex) of texts joined by NUL."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Submission:
    """One batch that is wanted, and whose it is.

    :param key: what identifies the submitter, the same for every attempt
    :param content: identifies what the file holds, where its id is not known yet
    :param round: of a job that sends some requests again
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
    content: str | None = None
    round: int | None = None
    run: str = ""
    label: str = ""
    max_tries: int = 0

    @property
    def input_key(self) -> str:
        """Identifies what is asked: the file, the model, the endpoint and the window."""
        window = completion_window_text(self.completion_window)
        return digest(self.content or self.input_file_id, self.model or "", self.endpoint, window)

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
        if self.round is not None:
            ours["airflow_round"] = str(self.round)
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

    def matches(self, batch: Batch) -> bool:
        """Whether this batch was created for this submission."""
        found = (batch.metadata.get(f"airflow_{name}") for name in ("key", "input", "round"))
        return tuple(found) == (self.key, self.input_key, None if self.round is None else str(self.round))

    def is_same_grant(self, batch: Batch) -> bool:
        """Whether nobody has let the submitter start over since it created this batch."""
        tries = str(batch.metadata.get("airflow_max_tries"))
        return tries.isdecimal() and int(tries) >= self.max_tries


def submit(client: SiliconFlowClient, submission: Submission, announce: Callable[[Batch], None]) -> Batch:
    """Return the one batch of this submission: the one that there is, or a new one.

    :param announce: is told a batch as soon as it is known, and again when another one turns out to be the one
    :raises InvalidRequestError: when the service would refuse it; nothing was sent
    :raises CreateUncertainError: when answers stayed lost; the next attempt finds the batch if there is one
    """
    submission.check()
    known = batches_of_key(client, submission)
    batch = choose(known, submission)
    if batch is not None:
        log.info("found batch %s (%s), which an earlier attempt created", batch.id, batch.status)
    else:
        _warn_of_others(known)
        batch = create(client, submission)
    announce(batch)
    # Also for one that was found: its own attempt may give it up for an older one.
    settle()
    older = keep_oldest(client, submission, batch.id)
    if older is not None:
        announce(older)
    return older or batch


def settle() -> None:
    """Wait until a list shows what others have created at the same time."""
    clock.sleep(SETTLING_SECONDS)


def find_batch(client: SiliconFlowClient, submission: Submission) -> Batch | None:
    """Return the batch that this submission has, or None when one is to be created.

    That is the oldest one that runs or has completed. One that ended otherwise counts only until a person lets the
    submitter start over: its verdict is to be repeated, not bought again.
    """
    return choose(batches_of_key(client, submission), submission)


def keep_oldest(client: SiliconFlowClient, submission: Submission, batch_id: str) -> Batch | None:
    """Cancel what runs of this submission beside its oldest batch, and return that one unless it is `batch_id`.

    Two attempts at once may both have found nothing and created a batch each. Both look again, and whoever sees both
    batches cancels the younger one, so that they agree without a lock, and one whose attempt has died ends too.

    :param batch_id: the batch that the caller waits for; the list need not show it yet
    """
    batches = list(filter(submission.matches, batches_of_key(client, submission)))
    if batches and all(each.id != batch_id for each in batches):
        batches.append(client.get_batch(batch_id))
    oldest = cancel_younger(client, batches, submission, batch_id)
    return None if oldest is None or oldest.id == batch_id else oldest


def cancel_younger(
    client: SiliconFlowClient, batches: Iterable[Batch], submission: Submission, own_id: str | None = None
) -> Batch | None:
    """Cancel what runs of a submission beside its oldest batch, and return that one.

    :param own_id: the caller's batch, whose end is logged even when it has completed
    :return: the oldest of these that runs or has completed; None when none does
    """
    good = [each for each in _in_order(batches, submission) if _runs_or_completed(each)]
    for younger in good[1:]:
        if _runs(younger) or younger.id == own_id:
            given_up = cancel_unless_over(client, younger.id)
            log.warning(
                "another attempt of this task has created a batch too: %s is older and is kept, %s is %s",
                good[0].id, younger.id, given_up.status,
            )  # fmt: skip
    return good[0] if good else None


def running_batches_of_run(client: SiliconFlowClient, run: str) -> Iterator[Batch]:
    """Yield the batches that were submitted with this `Submission.run` and still run."""
    for item in filter(_runs, _recent_batches(client)):
        # Some list items come without metadata; the single batch has it.
        batch = item if item.metadata else client.get_batch(item.id)
        if batch.metadata.get("airflow_run") == run and _runs(batch):
            yield batch


def _warn_of_others(batches: Iterable[Batch]) -> None:
    for other in filter(_runs, batches):
        log.warning(
            "batch %s (%s) of the same task runs on with another file, model or window, and is billed; to cancel it: "
            "client.cancel_batch(%r)",
            other.id, other.status, other.id,
        )  # fmt: skip


def create(client: SiliconFlowClient, submission: Submission) -> Batch:
    """Create the batch; after a lost answer only once it is known not to be there."""
    creates = 0
    while True:
        creates += 1
        try:
            batch = client.create_batch(
                submission.input_file_id,
                endpoint=submission.endpoint,
                completion_window=submission.completion_window,
                metadata=submission.batch_metadata(),
                model=submission.model,
            )
        except CreateUncertainError as error:
            log.warning("%s", error)
            found = _look_again(client, submission)
            if found is not None:
                return found
            if creates == MOST_CREATES:
                raise CreateUncertainError(
                    f"whether a batch of file {submission.input_file_id} was created is not known: the answers to "
                    f"{creates} creates were lost, and the list shows none. The next attempt of this task looks again "
                    f"before it creates ({error.__cause__})",
                    status=error.status,
                ) from error
            continue
        log.info("created batch %s of file %s (%s)", batch.id, submission.input_file_id, batch.status)
        return batch


def _look_again(client: SiliconFlowClient, submission: Submission) -> Batch | None:
    """Look some times for a batch whose create's answer was lost, since the list may lag."""
    for pause in LOOK_PAUSES:
        clock.sleep(pause)
        found = find_batch(client, submission)
        if found is not None:
            log.warning("the create was carried out: batch %s (%s) is there", found.id, found.status)
            return found
    log.warning("the create was not carried out: no such batch in the list after %d s", sum(LOOK_PAUSES))
    return None


def choose(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return the batch that this submission has, as `find_batch` says."""
    matching = _in_order(batches, submission)
    # The oldest of the verdicts too: a younger one was cancelled in its favour.
    verdicts = filter(submission.is_same_grant, matching)
    return next(chain(filter(_runs_or_completed, matching), verdicts), None)


def best_batch(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return the batch of a submission that counts, however it ended: the oldest that runs or has completed first."""
    matching = _in_order(batches, submission)
    return next(chain(filter(_runs_or_completed, matching), matching), None)


def batches_of_key(client: SiliconFlowClient, submission: Submission) -> list[Batch]:
    """Return all batches of the submitter that may be this submission's; of a job, those of every part and round."""
    return [each for each in _candidates(client, submission) if each.metadata.get("airflow_key") == submission.key]


def _in_order(batches: Iterable[Batch], submission: Submission) -> list[Batch]:
    return sorted(filter(submission.matches, batches), key=lambda each: (str(each.timing.created_at), each.id))


def _candidates(client: SiliconFlowClient, submission: Submission) -> Iterator[Batch]:
    # Parts and rounds of a job have files of their own.
    is_job = submission.round is not None
    for item in _recent_batches(client):
        if item.metadata:
            # Which one is the oldest is told by its time, and some list items come without.
            is_ours = item.metadata.get("airflow_key") == submission.key if is_job else submission.matches(item)
            yield client.get_batch(item.id) if is_ours and item.timing.created_at is None else item
        elif is_job or item.input_file_id in (None, submission.input_file_id):
            # Some list items come without metadata; the single batch has it.
            yield client.get_batch(item.id)


def _recent_batches(client: SiliconFlowClient) -> Iterator[Batch]:
    """Yield the account's batches of the time for which the service keeps results, newest first."""
    oldest = clock.now() - RETENTION
    for item in client.list_batches():
        if item.timing.created_at is not None and item.timing.created_at < oldest:
            return
        yield item


def _runs(batch: Batch) -> bool:
    return not has_ended(batch)


def _runs_or_completed(batch: Batch) -> bool:
    return _runs(batch) or batch.final_status == "completed"
