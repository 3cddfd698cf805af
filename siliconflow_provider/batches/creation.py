"""Create each batch once: search for it first, record the create request, and never resend it blindly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import CreateUncertainError, RateLimitError, SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import GIVE_UP_AFTER
from siliconflow_provider.api.retry import LONGEST_RETRY_AFTER
from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.batches.duplicates import find_and_cancel_duplicates
from siliconflow_provider.batches.finder import BatchFinder, FoundBatches, UnsafeSubmitError
from siliconflow_provider.batches.metadata import AIRFLOW_KEY
from siliconflow_provider.batches.records import CreateRecord, Records, new_record, with_metadata, write_outcome
from siliconflow_provider.batches.submission import (
    Submission,
    batch_to_resume,
    is_running,
    is_running_or_completed,
    oldest_first,
)
from siliconflow_provider.wording import command_line

log = logging.getLogger(__name__)

# A list that lags longer than this can hide another attempt's batch. Not 5 s: many servers close idle connections then.
LIST_LAG_SECONDS = 6.0
# Pauses before each search: after the first lost response, and after later ones, since only creates may be failing.
SEARCH_PAUSES = ((2.0, 4.0, 8.0), (30.0, 60.0, 120.0, 240.0, 600.0))
SEARCH_INTERVAL = 60.0
# Pauses after a 429, unless the service asks for a longer one. The first is as long as a search after a lost response.
RATE_LIMIT_PAUSES = (15.0, 60.0)
MAXIMUM_CREATES = 3
# A create that got a 429 counts for this long as possibly executed: no list is known to lag longer.
RATE_LIMITED_COUNTS_SECONDS = sum(SEARCH_PAUSES[1])

FindBatches = Callable[[], FoundBatches]


def submit(
    client: SiliconFlowClient,
    submission: Submission,
    records: Records,
    announce: Callable[[Batch], None],
    on_created: Callable[[Batch], None] | None = None,
) -> Batch:
    """Return the batch of this submission: an existing one, or a new one.

    An automatic retry gets the batch of its task instance, even if that batch is for another input.

    :param announce: called with the batch as soon as it is known, and again if an older duplicate replaces it
    :param on_created: called with the batch if this call has created it
    :raises InvalidRequestError: if the service would reject the submission; nothing was sent
    :raises CreateUncertainError: if the responses to several creates were lost; the next attempt searches first
    :raises UnsafeSubmitError: if a batch may exist that cannot be found
    """
    submission.check()
    finder = BatchFinder(client, submission, records)
    found = finder.find_and_record()
    batch = batch_to_resume(found.batches, submission) or _batch_of_other_input(found.batches, submission)
    if batch is not None:
        log.info("resuming batch %s (%s) of an earlier attempt", batch.id, batch.status)
    else:
        found.check_creatable(submission)
        _warn_of_others(found.batches)
        batch = create(client, submission, records, finder.find_and_record, found.open_records)
        if on_created is not None:
            on_created(batch)
    announce(batch)
    # For an existing batch too: the attempt that created it may cancel it as a duplicate.
    wait_for_list()
    older = find_and_cancel_duplicates(client, submission, records, batch)
    if older is not None:
        announce(older)
    return older or batch


def wait_for_list() -> None:
    """Wait until the list shows batches that concurrent attempts have just created."""
    clock.sleep(LIST_LAG_SECONDS)


def has_list_caught_up(moment: float) -> bool:
    """Return True if the list must show by now what was created at a moment.

    :param moment: Unix time
    """
    return clock.now().timestamp() - moment > LIST_LAG_SECONDS


def create(
    client: SiliconFlowClient,
    submission: Submission,
    records: Records,
    find: FindBatches,
    open_records: Iterable[CreateRecord] = (),
) -> Batch:
    """Create the batch. After a lost response, resend the request only if the list does not show the batch.

    :param find: finds the submitter's batches
    :param open_records: records of earlier attempts' creates whose outcome is unknown
    :raises CreateUncertainError: after too many lost responses; a later attempt searches again and creates nothing
    :raises RateLimitError: after too many responses 429; a later attempt searches for a while before it creates
    :raises UnsafeSubmitError: if a response was lost, and the service shows batches of the file without metadata
    """
    metadata = submission.batch_metadata()
    lost = [record for record in open_records if record.is_of_same_create(metadata, submission.keys)]
    found = _batch_of_lost_create(find, submission, lost)
    if found is None:
        lost = list(filter(_counts, lost))
    while found is None:
        if len(lost) >= MAXIMUM_CREATES:
            raise CreateUncertainError(
                f"the responses to {len(lost)} creates of a batch of file {submission.input_file_id} were lost, and "
                "the list shows no such batch. No further create is sent; a retry will search again. If the console "
                "does not show the batch either, clear the task to create it"
            )
        record = new_record(metadata, submission.attempt)
        records.write(record)
        try:
            batch = client.create_batch(
                submission.input_file_id,
                endpoint=submission.endpoint,
                completion_window=submission.completion_window,
                metadata=metadata,
                model=submission.model,
            )
        except CreateUncertainError as error:
            log.warning("%s", error)
            lost.append(record)
            found = _batch_of_lost_create(find, submission, lost)
        except RateLimitError as error:
            record = replace(record, is_limited=True)
            write_outcome(records, record, "sent")
            lost.append(record)
            if len(lost) >= MAXIMUM_CREATES:
                raise
            pause = max(RATE_LIMIT_PAUSES[len(lost) - 1], min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))
            log.warning("%s; searching for the batch in %d s, before resending the create", error, pause)
            found = _batch_of_lost_create(find, submission, lost, (pause,))
        except SiliconFlowError:
            write_outcome(records, record, "refused")
            raise
        else:
            write_outcome(records, record, "created", batch.id)
            log.info("created batch %s of file %s (%s)", batch.id, submission.input_file_id, batch.status)
            _warn_of_dropped_metadata(batch, metadata, records)
            return with_metadata(batch, record)
    write_outcome(records, lost[-1], "created", found.id)
    return found


def _counts(record: CreateRecord) -> bool:
    return not record.is_limited or clock.now().timestamp() - record.sent_at < RATE_LIMITED_COUNTS_SECONDS


def _search_pauses(lost: list[CreateRecord]) -> tuple[float, ...]:
    is_long = sum(not record.is_limited for record in lost) > 1 or sum(map(_counts, lost)) >= MAXIMUM_CREATES
    return SEARCH_PAUSES[is_long]


def _batch_of_lost_create(
    find: FindBatches, submission: Submission, lost: list[CreateRecord], pauses: Iterable[float] = ()
) -> Batch | None:
    """Search several times for the batch of a create whose response was lost, since the list may lag.

    :param pauses: pauses before each search; by default they depend on the number of lost responses
    :raises CreateUncertainError: if the list could not be read
    :raises UnsafeSubmitError: if the service shows a batch of the file without metadata
    """
    if not lost:
        return None
    found, started = FoundBatches(), clock.now()
    waits = iter(pauses or _search_pauses(lost))
    while (pause := next(waits, SEARCH_INTERVAL if found.error is not None else None)) is not None:
        clock.sleep(pause)
        found = find()
        batch = batch_to_resume(found.batches, submission)
        if batch is not None:
            log.warning(
                "the create was executed although its response was lost: using batch %s (%s)", batch.id, batch.status
            )
            return batch
        if clock.now() - started >= GIVE_UP_AFTER:
            break
    if found.error is not None:
        raise CreateUncertainError(
            f"the response to the create of a batch of file {submission.input_file_id} was lost. The batch may exist: "
            f"the list cannot be read ({found.error}). A retry will search for it first"
        )
    unidentified = [batch.id for batch in found.unidentified if submission.is_of_same_file(batch)]
    if unidentified:
        raise UnsafeSubmitError(
            f"the response to the create of a batch of file {submission.input_file_id} was lost, and the service shows "
            f"batches of this file without metadata ({first_names(unidentified)}).\nCheck them in the console, and "
            "clear the task if none of them is this task's"
        )
    seconds = (clock.now() - started).total_seconds()
    log.warning("the create was not executed: no such batch in the list after %d s; creating it again", seconds)
    return None


def _batch_of_other_input(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return the task instance's batch for another input, unless the task was cleared since; None if there is none."""
    counted = oldest_first(filter(submission.created_since_last_clear, batches))
    batch = next(filter(is_running_or_completed, counted), None) or next(iter(counted), None)
    if batch is not None:
        log.warning(
            "resuming batch %s (%s) of this task instance, although the task's %s changed: a retry does not submit a "
            "second batch",
            batch.id, batch.status, " and ".join(submission.changes_since(batch)),
        )  # fmt: skip
    return batch


def _warn_of_others(batches: Iterable[Batch]) -> None:
    for other in filter(is_running, batches):
        log.warning(
            "batch %s (%s) of this task, with another file, model or window, is still running and billed.\n"
            "To cancel: %s",
            other.id, other.status, command_line("cancel", [other.id]),
        )  # fmt: skip


def _warn_of_dropped_metadata(batch: Batch, metadata: dict[str, str], records: Records) -> None:
    if not records.is_persistent and batch.metadata.get(AIRFLOW_KEY) != metadata[AIRFLOW_KEY]:
        log.warning(
            "the service returned batch %s without the metadata that later attempts need to find it: if this attempt "
            "is killed, the next one will fail instead of submitting the batch again",
            batch.id,
        )
