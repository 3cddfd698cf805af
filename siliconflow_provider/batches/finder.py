"""Find the batches of one submitter from two sources: the service's list and the create records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pendulum

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import IncompleteListError, NotFoundError, SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.redaction import shown_error
from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.batches.listing import RETENTION, BatchLister
from siliconflow_provider.batches.metadata import AIRFLOW_KEY, AIRFLOW_MAX_TRIES
from siliconflow_provider.batches.records import CreateRecord, Records, with_metadata, write_outcome
from siliconflow_provider.batches.submission import Submission

log = logging.getLogger(__name__)

# A list that lacks a batch older than this is incomplete.
LONGEST_LAG = timedelta(minutes=2)
SHOWN_IDS = 5


class UnsafeSubmitError(ValueError):
    """The batch may exist already, and no retry can find out: a user must check."""


@dataclass(frozen=True)
class FoundBatches:
    """The result of one search for a submitter's batches.

    :param batches: batches of the submitter with any input, with the metadata of their create requests
    :param unidentified: batches of the same file that show no metadata
    :param missing: by batch id, the records of batches that the service does not know; None if there is no record
    :param open_records: records of create requests whose outcome is unknown
    :param attempts: by batch id, the attempt that created the batch; only of those where it is recorded
    :param error: why batches may be missing; None if the search is complete
    """

    batches: list[Batch] = field(default_factory=list)
    unidentified: list[Batch] = field(default_factory=list)
    missing: dict[str, CreateRecord | None] = field(default_factory=dict)
    open_records: list[CreateRecord] = field(default_factory=list)
    attempts: dict[str, str] = field(default_factory=dict)
    error: SiliconFlowError | None = None

    def check_creatable(self, submission: Submission, parts: Sequence[Submission] = ()) -> None:
        """Raise an error unless this submission certainly has no batch.

        :param parts: the submissions to create, if a job creates several batches for this one
        :raises SiliconFlowError: if the list is incomplete
        :raises UnsafeSubmitError: if a batch that was created cannot be found, and the task was not cleared since
        """
        if self.error is not None:
            raise self.error
        self.check_none_missing(submission, parts)
        self.check_none_unidentified(parts or (submission,))

    def check_none_unidentified(self, submissions: Sequence[Submission]) -> None:
        """Raise UnsafeSubmitError if a batch without metadata may belong to one of these submissions."""
        unidentified = [
            batch.id for batch in self.unidentified if any(wanted.is_of_same_file(batch) for wanted in submissions)
        ]
        if unidentified and not submissions[0].is_first_try:
            _stop_unless_cleared(
                submissions[0],
                "an earlier attempt of this task may have created one of these batches of the same file, but the "
                f"service shows no metadata: {_shown(unidentified)}.\nCheck them in the console; "
                "DownloadResultsOperator can write their results",
            )

    def check_none_missing(self, submission: Submission, parts: Iterable[Submission]) -> None:
        """Raise UnsafeSubmitError if a recorded batch of these parts is missing, or all recorded batches are."""
        metadata_of_parts = [part.batch_metadata() for part in parts]

        def is_of_a_part(record: CreateRecord | None) -> bool:
            return record is not None and any(
                record.is_of_same_create(metadata, submission.keys) for metadata in metadata_of_parts
            )

        missing = [batch_id for batch_id, record in self.missing.items() if not self.batches or is_of_a_part(record)]
        if missing:
            _stop_unless_cleared(
                submission,
                f"the batches that this task created ({_shown(missing)}) are not in the account of the connection's "
                "key: use the key of the account that has them",
            )


def _stop_unless_cleared(submission: Submission, problem: str) -> None:
    if not submission.is_cleared_try:
        raise UnsafeSubmitError(f"{problem}; or clear the task to submit everything again")
    log.warning("%s.\nSubmitting again, since the task was cleared", problem)


class BatchFinder:
    """Find the batches of one submitter, any number of times.

    :param submission: a submission of the submitter; its input and round are not used
    :param records: create records of the submitter
    :param known: batches that this attempt waits for, even if the list does not show them
    :param may_be_ours: returns True if a listed batch without metadata may be the submitter's; by default if it may
        have the same file
    :param ignore_deleted: ignore every batch whose results the service has deleted (after 30 days). By default such a
        batch is ignored only if it has ended and the task was cleared since
    """

    def __init__(
        self,
        client: SiliconFlowClient,
        submission: Submission,
        records: Records,
        known: Iterable[Batch] = (),
        may_be_ours: Callable[[Batch], bool] | None = None,
        *,
        ignore_deleted: bool = False,
    ) -> None:
        self._client = client
        self._submission = submission
        self._records = records
        self._known = {batch.id: batch for batch in known}
        self._may_be_ours = may_be_ours or submission.may_be_of_same_file
        self._ignore_deleted = ignore_deleted
        self._lister = BatchLister(client)
        self._last_read: list[CreateRecord] | None = None

    def find_and_record(self, since: pendulum.DateTime | None = None) -> FoundBatches:
        """List the batches, request known but unlisted ones singly, and record found batches of open creates.

        Errors of the service are returned in the result, not raised.

        :param since: ignore older batches in the list that show no metadata
        """
        listing = self._lister.search(
            self._submission.is_owner, self._may_be_ours, since, may_be_empty=self._may_have_none()
        )
        listed = {batch.id: batch for batch in listing.batches}
        records = self._read_records()
        created = {record.batch_id: record for record in records if record.batch_id is not None}
        found, error = dict(listed), listing.error
        missing: dict[str, CreateRecord | None] = {}
        for batch_id in {**created, **self._known}:
            try:
                batch = listed.get(batch_id) or self._client.get_batch(batch_id)
            except NotFoundError:
                if not self._is_ignored_record(created.get(batch_id)):
                    missing[batch_id] = created.get(batch_id)
                continue
            except SiliconFlowError as failure:
                error = error or failure
                continue
            found[batch_id] = with_metadata(batch, created[batch_id]) if batch_id in created else batch
            if error is None and batch_id not in listed and self._is_overdue(batch, since):
                error = IncompleteListError(
                    f"GET /batches does not list batch {batch_id}, which exists: other batches may be missing too"
                )
        return FoundBatches(
            batches=[batch for batch in found.values() if batch.id in self._known or not self._is_ignored(batch)],
            unidentified=[batch for batch in listing.unidentified if batch.id not in found],
            missing=missing,
            open_records=self._unanswered(records, found.values()),
            attempts={batch_id: record.attempt for batch_id, record in created.items() if record.attempt is not None},
            error=error,
        )

    def _unanswered(self, records: Sequence[CreateRecord], found: Iterable[Batch]) -> list[CreateRecord]:
        """Return the records of creates without a known batch. Write the outcome of those whose batch was found.

        It is written because a later list may lack the batch again.
        """
        open_records = [record for record in records if record.state == "sent"]
        recorded_ids = {record.batch_id for record in records}
        for batch in found if open_records else ():
            keys = self._submission.keys
            same = (record for record in open_records if record.is_of_same_create(batch.metadata, keys))
            record = next(same, None) if batch.id not in recorded_ids else None
            if record is not None:
                write_outcome(self._records, record, "created", batch.id)
                open_records.remove(record)
        return open_records

    def _may_have_none(self) -> bool:
        """Return True if this is a first try that has sent no create request: the account may be new."""
        return self._submission.is_first_try and not self._known and not (self._last_read or self._read_records())

    def _read_records(self) -> list[CreateRecord]:
        try:
            self._last_read = self._records.read()
        except Exception as error:
            if self._last_read is None:
                raise
            log.warning("could not read the create records again, using those read before: %s", shown_error(error))
        keys = self._submission.keys
        return [record for record in self._last_read or () if record.metadata.get(AIRFLOW_KEY) in keys]

    def _is_overdue(self, batch: Batch, since: pendulum.DateTime | None) -> bool:
        created_at = batch.timing.created_at
        if created_at is None or created_at < self._lister.oldest(since):
            return False
        return self._client.now() - created_at > LONGEST_LAG

    def _is_ignored(self, batch: Batch) -> bool:
        """Return True if a batch is ignored because the service has deleted its results.

        By default its age alone is not enough: a worker's clock may be a month ahead.
        """
        if not self._is_beyond_retention(batch.timing.created_at):
            return False
        is_cleared = self._submission.is_cleared_try or self._submission.is_cleared_since_creation(batch)
        return self._ignore_deleted or (batch.is_terminal and is_cleared)

    def _is_ignored_record(self, record: CreateRecord | None) -> bool:
        """Return True if the record of a missing batch is ignored because of its age."""
        if record is None:
            return False
        sent_at, tries = pendulum.from_timestamp(record.sent_at), record.metadata.get(AIRFLOW_MAX_TRIES, "")
        is_cleared = tries.isdecimal() and self._submission.is_cleared_since(int(tries), sent_at)
        return (self._ignore_deleted or is_cleared) and self._is_beyond_retention(sent_at)

    def _is_beyond_retention(self, moment: pendulum.DateTime | None) -> bool:
        return moment is not None and self._client.now() - moment > RETENTION


def _shown(ids: list[str]) -> str:
    return first_names(ids, SHOWN_IDS)
