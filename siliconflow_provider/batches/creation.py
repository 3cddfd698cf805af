"""Batches that are created once: looked for before, written down, and never sent again blindly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import CreateUncertainError, RateLimitError, SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import GIVE_UP_AFTER, retry_pauses
from siliconflow_provider.api.retry import LONGEST_RETRY_AFTER
from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.batches.cancellation import cancel_unless_over
from siliconflow_provider.batches.finder import BatchFinder, FoundBatches, UnsafeSubmitError
from siliconflow_provider.batches.listing import BatchLister
from siliconflow_provider.batches.metadata import AIRFLOW_KEY, AIRFLOW_RUN
from siliconflow_provider.batches.records import CreateRecord, Records, new_record, with_metadata, write_outcome
from siliconflow_provider.batches.submission import (
    Submission,
    batch_to_resume,
    is_digest,
    is_running,
    is_running_or_completed,
    oldest_first,
)

log = logging.getLogger(__name__)

# A list that lags longer than this can hide another attempt's batch. Not five: many servers close a connection then.
LIST_LAG_SECONDS = 6.0
# After the first lost answer, and after each later one: an outage of the create alone may take a while.
SEARCH_PAUSES = ((2.0, 4.0, 8.0), (30.0, 60.0, 120.0, 240.0, 600.0))
SEARCH_INTERVAL = 60.0
# After a 429, unless the service names a longer pause. The first is as long as the looks after a lost answer.
RATE_LIMIT_PAUSES = (15.0, 60.0)
MAXIMUM_CREATES = 3
# A create that was answered with a 429 counts for so long: no list is known to lag longer.
RATE_LIMITED_COUNTS_SECONDS = sum(SEARCH_PAUSES[1])

FindBatches = Callable[[], FoundBatches]


def submit(
    client: SiliconFlowClient, submission: Submission, records: Records, announce: Callable[[Batch], None]
) -> Batch:
    """Return the one batch of this submission: the one that there is, or a new one.

    An automatic retry gets the batch that its task instance has, even where that is for another input.

    :param announce: is told a batch as soon as it is known, and again when another one turns out to be the one
    :raises InvalidRequestError: when the service would refuse it; nothing was sent
    :raises CreateUncertainError: when answers stayed lost; the next attempt finds the batch if there is one
    :raises UnsafeSubmitError: when there may be one that cannot be found
    """
    submission.check()
    finder = BatchFinder(client, submission, records)
    found = finder.find_and_record()
    batch = batch_to_resume(found.batches, submission) or _batch_of_other_input(found.batches, submission)
    if batch is not None:
        log.info("found batch %s (%s), which an earlier attempt created", batch.id, batch.status)
    else:
        found.check_creatable(submission)
        _warn_of_others(found.batches)
        batch = create(client, submission, records, finder.find_and_record, found.open_records)
    announce(batch)
    # Also for one that was found: its own attempt may give it up for an older one.
    wait_for_list()
    older = find_and_cancel_duplicates(client, submission, records, batch)
    if older is not None:
        announce(older)
    return older or batch


def wait_for_list() -> None:
    """Wait until a list shows what others have created at the same time."""
    clock.sleep(LIST_LAG_SECONDS)


def has_list_caught_up(moment: float) -> bool:
    """Whether a list shows by now what was created at a moment, in Unix seconds."""
    return clock.now().timestamp() - moment > LIST_LAG_SECONDS


def find_and_cancel_duplicates(
    client: SiliconFlowClient, submission: Submission, records: Records, batch: Batch
) -> Batch | None:
    """Cancel what runs of this submission beside its oldest batch, and return that one unless it is `batch`.

    Two attempts at once may both have found nothing and created a batch each. Both look again, and whoever sees both
    batches cancels the younger one, so that they agree without a lock, and one whose attempt has died ends too. What
    fails here is a warning: the batch is known.

    :param batch: that the caller waits for; the list need not show it yet
    """
    try:
        found = BatchFinder(client, submission, records, [batch]).find_and_record(since=batch.timing.created_at)
        if found.error is not None:
            log.warning("could not list all batches, to look for one of another attempt: %s", found.error)
        oldest = cancel_duplicates(client, filter(submission.matches, found.batches), batch.id)
    except Exception as error:
        # Also of Airflow, or of a storage, where creates are written down.
        log.warning("could not look for the batch of another attempt: %s", error)
        return None
    return None if oldest is None or oldest.id == batch.id else oldest


def cancel_duplicates(client: SiliconFlowClient, batches: Iterable[Batch], own_id: str | None = None) -> Batch | None:
    """Cancel what runs of one submission beside its oldest batch, and return that one.

    :param own_id: the caller's batch, whose end is logged even when it has completed
    :return: the oldest of these that runs or has completed; None when none does
    """
    good = [each for each in oldest_first(batches) if is_running_or_completed(each)]
    for younger in good[1:]:
        if is_running(younger) or younger.id == own_id:
            given_up = _cancel_with_retries(client, younger.id)
            log.warning(
                "another attempt of this task has created a batch too: %s is older and is kept, %s is %s",
                good[0].id, younger.id, "not cancelled" if given_up is None else given_up.status,
            )  # fmt: skip
    return good[0] if good else None


def _cancel_with_retries(client: SiliconFlowClient, batch_id: str) -> Batch | None:
    """Cancel a batch that is paid for beside another one, for up to an hour; None when that stays impossible."""
    for pause in retry_pauses():
        try:
            return cancel_unless_over(client, batch_id)
        except SiliconFlowError as error:
            log.warning("could not cancel batch %s, which is billed beside another one: %s", batch_id, error)
        if pause is not None:
            clock.sleep(pause)
    return None


def find_running_by_dag_run(client: SiliconFlowClient, *runs: str) -> list[list[Batch]]:
    """Return for each `Submission.run_key` the batches that were submitted with it and still run.

    :raises SiliconFlowError: when the list is not whole
    """

    def is_of(batch: Batch, run: str) -> bool:
        return is_digest(batch.metadata.get(AIRFLOW_RUN), run)

    listing = BatchLister(client).search(lambda batch: any(is_of(batch, run) for run in runs), is_running)
    listing.raise_if_incomplete()
    running = list(filter(is_running, listing.batches))
    return [[batch for batch in running if is_of(batch, run)] for run in runs]


def create(
    client: SiliconFlowClient,
    submission: Submission,
    records: Records,
    find: FindBatches,
    open_records: Iterable[CreateRecord] = (),
) -> Batch:
    """Create the batch; after a lost answer only once it is known not to be there.

    :param find: finds the submitter's batches
    :param open_records: of creates by earlier attempts whose outcome is not known
    :raises CreateUncertainError: after too many lost answers; a further attempt looks again, and creates nothing
    :raises RateLimitError: after too many of 429; a further attempt looks for a while, and then creates
    :raises UnsafeSubmitError: when an answer was lost, and the service does not show whose batches there are
    """
    metadata = submission.batch_metadata()
    lost = [each for each in open_records if each.is_of_same_create(metadata, submission.keys)]
    found = _batch_of_lost_create(find, submission, lost)
    if found is None:
        lost = list(filter(_counts, lost))
    while found is None:
        if len(lost) >= MAXIMUM_CREATES:
            raise CreateUncertainError(
                f"the answers to {len(lost)} creates of a batch of file {submission.input_file_id} were lost, and the "
                "list shows none, so no further one is sent: a retry looks again. If the console does not show it "
                "either, clear the task to create it"
            )
        record = new_record(metadata)
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
            log.warning("%s; looking for the batch in %d s, before the create is sent again", error, pause)
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
    is_long = sum(not each.is_limited for each in lost) > 1 or sum(map(_counts, lost)) >= MAXIMUM_CREATES
    return SEARCH_PAUSES[is_long]


def _batch_of_lost_create(
    find: FindBatches, submission: Submission, lost: list[CreateRecord], pauses: Iterable[float] = ()
) -> Batch | None:
    """Look some times for the batch of a create whose answer was lost, since the list may lag.

    :param pauses: before each look; by default by the number of such creates
    :raises CreateUncertainError: when the list stays unreadable
    :raises UnsafeSubmitError: when the service shows a batch of the file, and not whose it is
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
            log.warning("the create was carried out: batch %s (%s) is there", batch.id, batch.status)
            return batch
        if clock.now() - started >= GIVE_UP_AFTER:
            break
    if found.error is not None:
        raise CreateUncertainError(
            f"the answer to the create of a batch of file {submission.input_file_id} was lost, and whether it was "
            f"carried out is not known, since the list cannot be read ({found.error}): a retry looks for it first"
        )
    unidentified = [each.id for each in found.unidentified if submission.is_of_same_file(each)]
    if unidentified:
        raise UnsafeSubmitError(
            f"the answer to the create of a batch of file {submission.input_file_id} was lost, and the service shows "
            f"batches of this file without metadata ({first_names(unidentified)}): look at them in the console, and "
            "clear the task if none of them is this task's"
        )
    seconds = (clock.now() - started).total_seconds()
    log.warning("the create was not carried out: no such batch in the list after %d s; creating it once more", seconds)
    return None


def _batch_of_other_input(batches: Iterable[Batch], submission: Submission) -> Batch | None:
    """Return a batch that the task instance has for another input, and that no person has cleared the task since."""
    counted = oldest_first(filter(submission.created_since_last_clear, batches))
    batch = next(filter(is_running_or_completed, counted), None) or next(iter(counted), None)
    if batch is not None:
        log.warning(
            "batch %s (%s) of this task instance is for another %s: a retry submits no second one, and goes on with it",
            batch.id, batch.status, " and ".join(submission.changes_since(batch)),
        )  # fmt: skip
    return batch


def _warn_of_others(batches: Iterable[Batch]) -> None:
    for other in filter(is_running, batches):
        log.warning(
            "batch %s (%s) of the same task runs on with another file, model or window, and is billed; to cancel it: "
            "client.cancel_batch(%r)",
            other.id, other.status, other.id,
        )  # fmt: skip


def _warn_of_dropped_metadata(batch: Batch, metadata: dict[str, str], records: Records) -> None:
    if not records.is_persistent and batch.metadata.get(AIRFLOW_KEY) != metadata[AIRFLOW_KEY]:
        log.warning(
            "batch %s came back without the metadata by which a later attempt finds it: if this attempt is killed, "
            "the next one stops rather than submit it again",
            batch.id,
        )
