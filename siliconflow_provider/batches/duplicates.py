"""Cancel the batches that concurrent attempts created for the same submission, all but the oldest."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import retry_pauses
from siliconflow_provider.api.redaction import shown_error
from siliconflow_provider.batches.cancellation import cancel_unless_over
from siliconflow_provider.batches.finder import BatchFinder
from siliconflow_provider.batches.records import Records
from siliconflow_provider.batches.submission import Submission, is_running, is_running_or_completed, oldest_first

log = logging.getLogger(__name__)


def find_and_cancel_duplicates(
    client: SiliconFlowClient, submission: Submission, records: Records, batch: Batch
) -> Batch | None:
    """Cancel all batches of this submission but the oldest. Return the oldest if it is not `batch`, else None.

    Two concurrent attempts may both have found nothing, and have created a batch each. Both search again, and an
    attempt that sees both batches cancels the younger one. So they agree without a lock, and the batch of a killed
    attempt is cancelled too. Errors are only warnings here, since the caller has its batch.

    :param batch: the caller's batch; the list need not show it yet
    """
    try:
        found = BatchFinder(client, submission, records, [batch]).find_and_record(since=batch.timing.created_at)
        if found.error is not None:
            log.warning(
                "could not list all batches, so a duplicate of batch %s may be missed: %s", batch.id, found.error
            )
        oldest = cancel_duplicates(client, filter(submission.matches, found.batches), batch.id)
    except Exception as error:
        # Any exception: Airflow or the storage that holds the create records can fail too.
        log.warning("could not check for duplicates of batch %s: %s", batch.id, shown_error(error))
        return None
    return None if oldest is None or oldest.id == batch.id else oldest


def cancel_duplicates(client: SiliconFlowClient, batches: Iterable[Batch], own_id: str | None = None) -> Batch | None:
    """Cancel all running batches of one submission but the oldest, and return the oldest.

    :param own_id: id of the caller's batch; a warning is logged for it even if it has already completed
    :return: the oldest batch that is running or has completed; None if there is none
    """
    good = [batch for batch in oldest_first(batches) if is_running_or_completed(batch)]
    for younger in good[1:]:
        if is_running(younger) or younger.id == own_id:
            cancelled = _cancel_with_retries(client, younger.id)
            log.warning(
                "two attempts of this task have created a batch: keeping %s, which is older; %s is %s",
                good[0].id, younger.id, "not cancelled" if cancelled is None else cancelled.status,
            )  # fmt: skip
    return good[0] if good else None


def _cancel_with_retries(client: SiliconFlowClient, batch_id: str) -> Batch | None:
    """Cancel a duplicate batch, with retries for up to an hour. Return its new state, or None if that failed."""
    for pause in retry_pauses():
        try:
            return cancel_unless_over(client, batch_id)
        except SiliconFlowError as error:
            log.warning("could not cancel batch %s, a duplicate that is billed: %s", batch_id, error)
        if pause is not None:
            clock.sleep(pause)
    return None
