"""Find and submit the batches of a job's rounds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import IncompleteListError, NotFoundError, SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import is_retryable, retry_pauses
from siliconflow_provider.batches import (
    AIRFLOW_INPUT,
    AIRFLOW_ROUND,
    SHORTEST_DIGEST,
    BatchFinder,
    FoundBatches,
    Records,
    Submission,
    batch_to_collect,
    cancel_duplicates,
    create,
    is_active_limit,
    wait_for_list,
)
from siliconflow_provider.inputs import Part
from siliconflow_provider.jobs.batch_checks import may_be_billed, may_belong_to_job
from siliconflow_provider.jobs.concurrency import submit_all
from siliconflow_provider.jobs.job import Inherited, Round
from siliconflow_provider.jobs.part_uploads import PartUploads
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)


class JobBatches:
    """The batches of a job, by round and part.

    :param submission: the submission of a part; the file, content and round are set for each part
    :param records: the records of creates
    :param ended: batches that are known to be over, even if the service's list still shows them running
    :param inherited: state of the job that this one replaced
    :param announce: called with the ids of the job's batches so far, after each search and each create
    """

    def __init__(
        self,
        client: SiliconFlowClient,
        submission: Submission,
        records: Records,
        ended: Iterable[Batch] = (),
        inherited: Inherited | None = None,
        announce: Callable[[list[str]], None] = lambda batch_ids: None,
    ) -> None:
        self._client = client
        self._submission = submission
        self._records = records
        self._inherited = inherited or Inherited()
        self._ended = {batch.id: batch for batch in ended}
        self._finder = BatchFinder(
            client, submission, records, self._ended.values(), may_belong_to_job, ignore_deleted=True
        )
        self._seen = FoundBatches()
        self._found: dict[tuple[int, str], Batch] = {}
        self._others: list[Batch] = []
        self._limit: Exception | None = None
        self._announce = announce
        self.is_limited = False
        self.created: list[Batch] = []

    def find_until_settled(self, rounds: Sequence[Round]) -> None:
        """Find the batches of all parts and cancel duplicates.

        Do it again later if a concurrent attempt may just have created some.
        """
        self.find_and_cancel_duplicates(rounds)
        # Batches created in the same second are ordered by their ids.
        newest = clock.now() - timedelta(seconds=10)
        if any(
            not batch.is_terminal and (batch.timing.created_at or newest) > newest for batch in self._found.values()
        ):
            wait_for_list()
            self.find_and_cancel_duplicates(rounds)

    def find_and_cancel_duplicates(self, rounds: Sequence[Round]) -> None:
        """Find the batches of all parts; cancel duplicates that concurrent attempts have created.

        A failed search is a warning: known batches stay known, and nothing is created after it.
        """
        self._seen = self._finder.find_and_record(since=pendulum.from_timestamp(rounds[0].planned_at))
        if self._seen.error is not None:
            log.warning("could not list all batches of this job: %s", self._seen.error)
        groups: dict[tuple[str | None, str], list[Batch]] = {}
        for batch in self._seen.batches:
            if batch.id in self._inherited.collected:
                continue
            name = batch.metadata.get(AIRFLOW_ROUND), batch.metadata.get(AIRFLOW_INPUT, "")[:SHORTEST_DIGEST]
            # The wait may have seen less of the metadata than the search.
            ended = self._ended.get(batch.id, batch)
            groups.setdefault(name, []).append(replace(ended, metadata=batch.metadata))
        for round_ in rounds:
            for part in round_.parts:
                submission = self._submission_of(round_, part)
                group = groups.pop((str(round_.number), submission.input_key[:SHORTEST_DIGEST]), [])
                self._assign(round_, part, submission, group)
        rest = [batch for group in groups.values() for batch in group if batch.id not in self._inherited.others]
        recent = filter(self._submission.created_since_last_clear, rest)
        self._others = [batch for batch in recent if may_be_billed(batch)]
        # A search that failed may have missed some that were announced before the task was deferred.
        if self._seen.error is None:
            self._announce_batches()

    def _announce_batches(self) -> None:
        # A copy: other threads add the batches that they create.
        self._announce([batch.id for batch in list(self._found.values())])

    def _assign(self, round_: Round, part: Part, submission: Submission, group: list[Batch]) -> None:
        """Cancel the younger duplicates of a part's batch, and remember the best batch."""
        own = self.batch_of_part(round_, part)
        # A stale list must not hide a batch that this attempt has created.
        if own is not None and all(batch.id != own.id for batch in group):
            group.append(own)
        cancel_duplicates(self._client, group)
        best = batch_to_collect(group, submission)
        if best is not None:
            self._found[round_.number, part.sha256] = best

    @property
    def error(self) -> SiliconFlowError | None:
        """The error by which the last search may have missed batches."""
        return self._seen.error

    def check_batches_known(self, rounds: Sequence[Round]) -> None:
        """Raise if the last search may have missed the batch of a part.

        :raises SiliconFlowError: a retry may succeed
        """
        pairs = ((round_, part) for round_ in rounds for part in round_.parts)
        is_complete = all(self.batch_of_part(*pair) is not None for pair in pairs)
        # If the account has too many batches to list them all, the records are enough.
        if self.error is not None and not is_complete and not isinstance(self.error, IncompleteListError):
            raise self.error

    @property
    def attempts(self) -> dict[str, str]:
        """The attempt that created a batch, by its id; only of batches where it is recorded."""
        return self._seen.attempts

    @property
    def collected(self) -> list[str]:
        """Ids of the batches that are over, including those whose answers the job inherited."""
        return [*self._inherited.collected, *(batch.id for batch in self._found.values() if batch.is_terminal)]

    @property
    def others(self) -> list[str]:
        """Ids of all other known batches of the task."""
        shown = [batch.id for batch in (*self._found.values(), *self._seen.batches)]
        collected = set(self.collected)
        return [batch_id for batch_id in dict.fromkeys([*shown, *self._inherited.others]) if batch_id not in collected]

    def find_other_running_batches(self) -> list[Batch]:
        """Return the task's batches that belong to no part of this job and run, or may run."""
        own = {batch.id for batch in self._found.values()}
        shown = {batch.id: batch for batch in self._seen.batches}
        found = [shown.get(batch_id) or self._get(batch_id) for batch_id in self.others if batch_id not in own]
        return [batch for batch in found if batch is not None and not batch.is_terminal]

    def _get(self, batch_id: str) -> Batch | None:
        try:
            return self._client.get_batch(batch_id)
        except NotFoundError:
            return None
        except SiliconFlowError as error:
            log.warning("could not get the status of batch %s; it may still be running and billed: %s", batch_id, error)
            return Batch(id=batch_id, status="unknown")

    @property
    def foreign_batches(self) -> list[Batch]:
        """Batches that a concurrent attempt has submitted for another job; empty if this job has batches."""
        return [] if self._found else self._others

    def submit(self, rounds: Sequence[Round], parts: Sequence[Part], path: Path) -> None:
        """Upload parts of the newest round's file and create their batches, a few at a time.

        Once a batch exists, and is billed, failed parts are retried for an hour. If the service refuses a batch because
        too many are running, and some of them are this job's, `is_limited` is set, and the other parts stay without a
        batch.

        :param path: the newest round's file
        :raises SiliconFlowError: if the list is incomplete, or a part could not be submitted
        :raises UnsafeSubmitError: if there may be batches that cannot be found
        """
        uploads = PartUploads(self._client, path)
        self._search_until_complete(rounds, parts, uploads)
        for pause in retry_pauses():
            failed = self._try_submit_all(rounds[-1], parts, uploads)
            parts = [part for part, _ in failed]
            if not failed or self.is_limited:
                break
            error = next((error for _, error in failed if not is_retryable(error)), failed[0][1])
            if pause is None or not self._found or not is_retryable(error):
                raise error
            log.warning("could not submit %s, will keep trying for an hour: %s", counted(len(parts), "part"), error)
            clock.sleep(pause)
            # The search also completes the records of these creates.
            self.find_and_cancel_duplicates(rounds)
            parts = [part for part in parts if self.batch_of_part(rounds[-1], part) is None]
        wait_for_list()

    def _try_submit_all(
        self, round_: Round, parts: Sequence[Part], uploads: PartUploads
    ) -> list[tuple[Part, Exception]]:
        """Submit parts, a few at a time, until the service takes no more. Return those that failed."""
        self._limit = None
        failed = submit_all(parts, lambda part: self._try_submit(round_, part, uploads), self._announce_batches)
        limits = [error for _, error in failed if is_active_limit(error)]
        self.is_limited = bool(limits) and len(limits) == len(failed) and self._is_any_running(round_)
        if self.is_limited:
            log.warning(
                "%s wait until a batch has ended, since the service takes no more now: %s",
                counted(len(failed), "part"), limits[0],
            )  # fmt: skip
        return failed

    def _is_any_running(self, round_: Round) -> bool:
        return any(not batch.is_terminal for batch in self.batches_of_round(round_).values())

    def _search_until_complete(self, rounds: Sequence[Round], parts: Sequence[Part], uploads: PartUploads) -> None:
        """Search again while the list fails and the job has batches; raise if it is unsafe to create batches.

        If the account has too many batches to list them all, the records are enough for a part whose create was
        never sent.
        """
        wanted = [
            replace(self._submission_of(rounds[-1], part), input_file_id=uploads.known_id(part)) for part in parts
        ]
        for pause in retry_pauses():
            error = self._seen.error
            if error is None or pause is None or not self._found:
                break
            if isinstance(error, IncompleteListError) and not self._has_open_record(rounds[-1], parts):
                self._seen.check_none_missing(self._submission, wanted)
                return
            clock.sleep(pause)
            self.find_and_cancel_duplicates(rounds)
        self._seen.check_creatable(self._submission, wanted)

    def _has_open_record(self, round_: Round, parts: Sequence[Part]) -> bool:
        keys = {self._submission_of(round_, part).input_key for part in parts}
        return any(record.metadata[AIRFLOW_INPUT] in keys for record in self._seen.open_records)

    def _try_submit(self, round_: Round, part: Part, uploads: PartUploads) -> Exception | None:
        if self._limit is not None and self._is_any_running(round_):
            return self._limit
        try:
            submission = replace(self._submission_of(round_, part), input_file_id=uploads.upload(part))
            self._found[round_.number, part.sha256] = batch = create(
                self._client, submission, self._records, self._finder.find_and_record, self._seen.open_records
            )
            self.created.append(batch)
        except Exception as error:
            if is_active_limit(error):
                self._limit = error
            return error
        return None

    def batch_of_part(self, round_: Round, part: Part) -> Batch | None:
        """Return the batch of a part, or None."""
        return self._found.get((round_.number, part.sha256))

    def batches_of_round(self, round_: Round) -> dict[str, Batch]:
        """Return the batches of a round, by the SHA-256 of their part."""
        found = {part.sha256: self.batch_of_part(round_, part) for part in round_.parts}
        return {sha256: batch for sha256, batch in found.items() if batch is not None}

    def refresh(self, round_: Round, part: Part) -> Batch:
        """Get the batch of a part from the service: lists may omit its result files, and signed URLs expire."""
        known = self._found[round_.number, part.sha256]
        batch = replace(self._client.get_batch(known.id), metadata=known.metadata)
        self._found[round_.number, part.sha256] = batch
        return batch

    @property
    def created_at(self) -> list[pendulum.DateTime]:
        """The creation times of the job's batches."""
        times = (batch.timing.created_at for batch in self._found.values())
        return [created_at for created_at in times if created_at is not None]

    def _submission_of(self, round_: Round, part: Part) -> Submission:
        return replace(self._submission, content_sha256=part.sha256, round=round_.number)
