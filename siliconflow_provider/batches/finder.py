"""The batches of one submitter, by two witnesses: what the service lists, and what is written down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pendulum

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import IncompleteListError, NotFoundError, SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.batches.listing import RETENTION, BatchLister
from siliconflow_provider.batches.metadata import AIRFLOW_KEY, AIRFLOW_MAX_TRIES
from siliconflow_provider.batches.records import CreateRecord, Records, with_metadata, write_outcome
from siliconflow_provider.batches.submission import Submission

log = logging.getLogger(__name__)

# A list that does not show a batch of this age is not whole.
LONGEST_LAG = timedelta(minutes=2)
SHOWN_IDS = 5


class UnsafeSubmitError(ValueError):
    """A batch may be there already, and nothing that heals would tell: a person has to look."""


@dataclass(frozen=True)
class FoundBatches:
    """The result of one search.

    :param batches: of the submitter, for whatever input, with the metadata that they were created with
    :param unidentified: batches of the same file that show no metadata
    :param gone: records of batches that the service does not know, by id; None where nothing is written down
    :param open_records: of creates whose outcome is not known
    :param error: why others may be missing
    """

    batches: list[Batch] = field(default_factory=list)
    unidentified: list[Batch] = field(default_factory=list)
    gone: dict[str, CreateRecord | None] = field(default_factory=dict)
    open_records: list[CreateRecord] = field(default_factory=list)
    error: SiliconFlowError | None = None

    def check_creatable(self, submission: Submission, parts: Sequence[Submission] = ()) -> None:
        """Raise unless it is known that this submission has no batch.

        :param parts: what is to be created, where that is not the submission itself
        :raises SiliconFlowError: when the list is not whole
        :raises UnsafeSubmitError: when a batch that was created cannot be found, and the task was not cleared since
        """
        if self.error is not None:
            raise self.error
        self.check_none_missing(submission, parts)
        self.check_none_unidentified(parts or (submission,))

    def check_none_unidentified(self, submissions: Sequence[Submission]) -> None:
        """Raise UnsafeSubmitError when a batch may be one of these, and the service does not show whose it is."""
        unidentified = [
            each.id for each in self.unidentified if any(wanted.is_of_same_file(each) for wanted in submissions)
        ]
        if unidentified and not submissions[0].is_first_try:
            _stop_unless_cleared(
                submissions[0],
                "the service shows no metadata, and an earlier attempt of this task may have created one of these "
                f"batches of the same file: {_shown(unidentified)}. Look at them in the console; "
                "DownloadResultsOperator fetches results",
            )

    def check_none_missing(self, submission: Submission, parts: Iterable[Submission]) -> None:
        """Raise UnsafeSubmitError if a recorded batch of these parts is missing, or all recorded batches are."""
        creates = [each.batch_metadata() for each in parts]

        def is_meant(record: CreateRecord | None) -> bool:
            return record is not None and any(record.is_of_same_create(each, submission.keys) for each in creates)

        gone = [each for each, record in self.gone.items() if not self.batches or is_meant(record)]
        if gone:
            _stop_unless_cleared(
                submission,
                f"the batches that this task created ({_shown(gone)}) are not in the account of the connection's key: "
                "use the key of the account that has them",
            )


def _stop_unless_cleared(submission: Submission, problem: str) -> None:
    if not submission.is_cleared_try:
        raise UnsafeSubmitError(f"{problem}; or clear the task to submit everything again")
    log.warning("%s. The task was cleared, so it is submitted again", problem)


class BatchFinder:
    """Finds the batches of one submitter, as often as an attempt asks.

    :param submission: of the submitter; input and round are of no account
    :param records: where creates are written down
    :param known: batches that this attempt waits for, whatever the list shows
    :param may_be_ours: whether a listed batch without metadata may be the submitter's; by default one of its file
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
        self._known = {each.id: each for each in known}
        self._may_be_ours = may_be_ours or submission.may_be_of_same_file
        self._forgets = ignore_deleted
        self._lister = BatchLister(client)
        self._last_read: list[CreateRecord] | None = None

    def find_and_record(self, since: pendulum.DateTime | None = None) -> FoundBatches:
        """List the batches, and ask singly for those that are known and not listed.

        Fails by no exception of the service.

        :param since: nothing older is looked for in the list that shows no metadata
        """
        listing = self._lister.search(
            self._submission.is_owner, self._may_be_ours, since, may_be_empty=self._may_have_none()
        )
        listed = {each.id: each for each in listing.batches}
        records = self._read_records()
        created = {each.batch_id: each for each in records if each.batch_id is not None}
        found, error = dict(listed), listing.error
        gone: dict[str, CreateRecord | None] = {}
        for batch_id in {**created, **self._known}:
            try:
                batch = listed.get(batch_id) or self._client.get_batch(batch_id)
            except NotFoundError:
                if not self._is_past_record(created.get(batch_id)):
                    gone[batch_id] = created.get(batch_id)
                continue
            except SiliconFlowError as failure:
                error = error or failure
                continue
            found[batch_id] = with_metadata(batch, created[batch_id]) if batch_id in created else batch
            if error is None and batch_id not in listed and self._is_overdue(batch, since):
                error = IncompleteListError(
                    f"GET /batches does not list batch {batch_id}, which is there: which others there are is not known"
                )
        return FoundBatches(
            batches=[each for each in found.values() if each.id in self._known or not self._is_past(each)],
            unidentified=[each for each in listing.unidentified if each.id not in found],
            gone=gone,
            open_records=self._unanswered(records, found.values()),
            error=error,
        )

    def _unanswered(self, records: Sequence[CreateRecord], found: Iterable[Batch]) -> list[CreateRecord]:
        """Return the records of creates of which no batch is known, and write down those that were found.

        A later list may hide again what this one has shown.
        """
        open_records = [each for each in records if each.state == "sent"]
        written = {each.batch_id for each in records}
        for batch in found if open_records else ():
            same = (each for each in open_records if each.is_of_same_create(batch.metadata, self._submission.keys))
            record = next(same, None) if batch.id not in written else None
            if record is not None:
                write_outcome(self._records, record, "created", batch.id)
                open_records.remove(record)
        return open_records

    def _may_have_none(self) -> bool:
        """Whether this is a first try that has sent no create: its account may be new."""
        return self._submission.is_first_try and not self._known and not (self._last_read or self._read_records())

    def _read_records(self) -> list[CreateRecord]:
        try:
            self._last_read = self._records.read()
        except Exception as error:
            if self._last_read is None:
                raise
            log.warning("could not read again what was created, so what was read before counts: %s", error)
        return [each for each in self._last_read or () if each.metadata.get(AIRFLOW_KEY) in self._submission.keys]

    def _is_overdue(self, batch: Batch, since: pendulum.DateTime | None) -> bool:
        created_at = batch.timing.created_at
        if created_at is None or created_at < self._lister.oldest(since):
            return False
        return self._client.now() - created_at > LONGEST_LAG

    def _is_past(self, batch: Batch) -> bool:
        """Whether a batch's results are deleted, and it counts no more.

        By default its age alone is not enough: a worker's clock can be a month ahead.
        """
        if not self._is_beyond_retention(batch.timing.created_at):
            return False
        is_cleared = self._submission.is_cleared_try or self._submission.is_cleared_since_creation(batch)
        return self._forgets or (batch.is_terminal and is_cleared)

    def _is_past_record(self, record: CreateRecord | None) -> bool:
        """Whether a batch that is written down, and is not there, counts no more."""
        if record is None:
            return False
        sent_at, tries = pendulum.from_timestamp(record.sent_at), record.metadata.get(AIRFLOW_MAX_TRIES, "")
        is_cleared = tries.isdecimal() and self._submission.is_cleared_since(int(tries), sent_at)
        return (self._forgets or is_cleared) and self._is_beyond_retention(sent_at)

    def _is_beyond_retention(self, moment: pendulum.DateTime | None) -> bool:
        return moment is not None and self._client.now() - moment > RETENTION


def _shown(ids: list[str]) -> str:
    return first_names(ids, SHOWN_IDS)
