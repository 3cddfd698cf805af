"""The batches of a job's rounds: those that the service has, and those that are submitted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    file_name,
    sha256_in_name,
    wait_for_list,
)
from siliconflow_provider.inputs import FilePart, Part
from siliconflow_provider.jobs.job import Kept, Round

log = logging.getLogger(__name__)

SUBMITTED_AT_ONCE = 4


def may_be_of_job(item: Batch) -> bool:
    """Whether a listed batch without metadata may be a job's: its file is named for its content."""
    return item.file_name is None or sha256_in_name(item.file_name) is not None


class JobBatches:
    """The batches of a job, by round and part.

    :param submission: of any part; file, content and round are the part's
    :param records: where creates are written down
    :param ended: batches that are known to be over, also where the service's list still shows them running
    :param kept: what the job has from the one that it replaced
    """

    def __init__(
        self,
        client: SiliconFlowClient,
        submission: Submission,
        records: Records,
        ended: Iterable[Batch] = (),
        kept: Kept | None = None,
    ) -> None:
        self._client = client
        self._submission = submission
        self._records = records
        self._kept = kept or Kept()
        self._ended = {each.id: each for each in ended}
        self._finder = BatchFinder(
            client, submission, records, self._ended.values(), may_be_of_job, ignore_deleted=True
        )
        self._seen = FoundBatches()
        self._found: dict[tuple[int, str], Batch] = {}
        self._others: list[Batch] = []

    def find_until_settled(self, rounds: Sequence[Round]) -> None:
        """Find the batches of all parts and cancel duplicates; again if a concurrent attempt may have created some."""
        self.find_and_cancel_duplicates(rounds)
        # Batches of one second are told apart by their ids.
        newest = clock.now() - timedelta(seconds=10)
        if any(not each.is_terminal and (each.timing.created_at or newest) > newest for each in self._found.values()):
            wait_for_list()
            self.find_and_cancel_duplicates(rounds)

    def find_and_cancel_duplicates(self, rounds: Sequence[Round]) -> None:
        """Find the batches of all parts; cancel those that two concurrent attempts have created twice.

        A search that fails is a warning: known batches stay known, and nothing is created after it.
        """
        self._seen = self._finder.find_and_record(since=pendulum.from_timestamp(rounds[0].planned_at))
        if self._seen.error is not None:
            log.warning("could not list all batches of this job: %s", self._seen.error)
        groups: dict[tuple[str | None, str], list[Batch]] = {}
        for batch in self._seen.batches:
            if batch.id in self._kept.collected:
                continue
            name = batch.metadata.get(AIRFLOW_ROUND), batch.metadata.get(AIRFLOW_INPUT, "")[:SHORTEST_DIGEST]
            # Who has waited for it may have seen less of its metadata than is known.
            ended = self._ended.get(batch.id, batch)
            groups.setdefault(name, []).append(replace(ended, metadata=batch.metadata))
        for round_ in rounds:
            for part in round_.parts:
                submission = self._submission_of(round_, part)
                group = groups.pop((str(round_.number), submission.input_key[:SHORTEST_DIGEST]), [])
                self._take_group(round_, part, submission, group)
        rest = [batch for group in groups.values() for batch in group if batch.id not in self._kept.others]
        counted = filter(self._submission.created_since_last_clear, rest)
        self._others = [each for each in counted if runs_or_has_answered(each)]

    def _take_group(self, round_: Round, part: Part, submission: Submission, group: list[Batch]) -> None:
        own = self.of_part(round_, part)
        # A list that lags must not hide what this attempt has created.
        if own is not None and all(batch.id != own.id for batch in group):
            group.append(own)
        cancel_duplicates(self._client, group)
        best = batch_to_collect(group, submission)
        if best is not None:
            self._found[round_.number, part.sha256] = best

    @property
    def error(self) -> SiliconFlowError | None:
        """Why the last search may have missed some."""
        return self._seen.error

    @property
    def collected(self) -> list[str]:
        """Ids of the batches that are over, also of those that the job was given with its kept answers."""
        return [*self._kept.collected, *(each.id for each in self._found.values() if each.is_terminal)]

    @property
    def others(self) -> list[str]:
        """Ids of all other batches that the task is known to have."""
        shown = [each.id for each in (*self._found.values(), *self._seen.batches)]
        collected = set(self.collected)
        return [each for each in dict.fromkeys([*shown, *self._kept.others]) if each not in collected]

    def find_running_elsewhere(self) -> list[Batch]:
        """Return those of the task that still run, or may, and are of no part of this job."""
        own = {each.id for each in self._found.values()}
        shown = {each.id: each for each in self._seen.batches}
        found = [shown.get(each) or self._ask(each) for each in self.others if each not in own]
        return [each for each in found if each is not None and not each.is_terminal]

    def _ask(self, batch_id: str) -> Batch | None:
        try:
            return self._client.get_batch(batch_id)
        except NotFoundError:
            return None
        except SiliconFlowError as error:
            log.warning("could not ask whether batch %s still runs: %s", batch_id, error)
            return Batch(id=batch_id, status="unknown")

    @property
    def foreign_batches(self) -> list[Batch]:
        """What another attempt at the same time has submitted for a job of its own, where this one has no batch."""
        return [] if self._found else self._others

    def submit(self, rounds: Sequence[Round], parts: Sequence[Part], path: Path) -> None:
        """Upload parts of the newest round's file and create their batches, a few at a time.

        Once one is created, what fails is tried again for an hour: that batch is paid for.

        :param path: of the newest round's file
        :raises SiliconFlowError: when the list is not whole, or a part could not be submitted
        :raises UnsafeSubmitError: when there may be batches that cannot be found
        """
        uploaded = self._uploaded()
        self._look_until_whole(rounds, parts, uploaded)
        for pause in retry_pauses():
            with ThreadPoolExecutor(SUBMITTED_AT_ONCE) as pool:
                errors = list(pool.map(lambda part: self._try_submit(rounds[-1], part, path, uploaded), parts))
            failed = [(part, error) for part, error in zip(parts, errors, strict=True) if error is not None]
            if not failed:
                break
            parts = [part for part, _ in failed]
            error = next((each for _, each in failed if not is_retryable(each)), failed[0][1])
            if pause is None or not self._found or not is_retryable(error):
                raise error
            log.warning("could not submit %d parts, will keep trying for an hour: %s", len(parts), error)
            clock.sleep(pause)
            # Also for what is written down of these creates, which are bounded.
            self.find_and_cancel_duplicates(rounds)
            parts = [each for each in parts if self.of_part(rounds[-1], each) is None]
        wait_for_list()

    def _look_until_whole(
        self, rounds: Sequence[Round], parts: Sequence[Part], uploaded: dict[str | None, str]
    ) -> None:
        """Look again while the list fails, if batches of this job are paid for; raise what keeps parts from being sent.

        What is written down is enough for a part whose create was never sent: a list that cannot be whole, as the
        service has too many batches for it, does not hold those.
        """
        wanted = [
            replace(self._submission_of(rounds[-1], each), input_file_id=uploaded.get(file_name(each.sha256), ""))
            for each in parts
        ]
        for pause in retry_pauses():
            error = self._seen.error
            if error is None or pause is None or not self._found:
                break
            if isinstance(error, IncompleteListError) and not self._is_any_open(rounds[-1], parts):
                self._seen.check_none_missing(self._submission, wanted)
                return
            clock.sleep(pause)
            self.find_and_cancel_duplicates(rounds)
        self._seen.check_creatable(self._submission, wanted)

    def _is_any_open(self, round_: Round, parts: Sequence[Part]) -> bool:
        keys = {self._submission_of(round_, each).input_key for each in parts}
        return any(each.metadata[AIRFLOW_INPUT] in keys for each in self._seen.open_records)

    def _uploaded(self) -> dict[str | None, str]:
        """Return the ids of files by their name, as far as the service lists them."""
        try:
            return {each.filename: each.id for each in self._client.list_files()}
        except SiliconFlowError as error:
            log.warning("could not list the uploaded files, so all are uploaded: %s", error)
            return {}

    def _try_submit(self, round_: Round, part: Part, path: Path, uploaded: dict[str | None, str]) -> Exception | None:
        try:
            name = file_name(part.sha256)
            with FilePart(path, part) as content:
                if name not in uploaded:
                    uploaded[name] = self._client.upload_file(content, filename=name).id
            submission = replace(self._submission_of(round_, part), input_file_id=uploaded[name])
            self._found[round_.number, part.sha256] = create(
                self._client, submission, self._records, self._finder.find_and_record, self._seen.open_records
            )
        except Exception as error:
            return error
        return None

    def of_part(self, round_: Round, part: Part) -> Batch | None:
        """Return the batch of a part, None when there is none."""
        return self._found.get((round_.number, part.sha256))

    def of_round(self, round_: Round) -> dict[str, Batch]:
        """Return the batches of a round by the SHA-256 of their part."""
        found = {part.sha256: self.of_part(round_, part) for part in round_.parts}
        return {sha256: batch for sha256, batch in found.items() if batch is not None}

    def refresh(self, round_: Round, part: Part) -> Batch:
        """Ask for the batch of a part: some lists show no results, and signed URLs expire."""
        known = self._found[round_.number, part.sha256]
        batch = replace(self._client.get_batch(known.id), metadata=known.metadata)
        self._found[round_.number, part.sha256] = batch
        return batch

    @property
    def created_at(self) -> list[pendulum.DateTime]:
        """When the batches were created that there are."""
        return [each.timing.created_at for each in self._found.values() if each.timing.created_at is not None]

    def _submission_of(self, round_: Round, part: Part) -> Submission:
        return replace(self._submission, content_sha256=part.sha256, round=round_.number)


def runs_or_has_answered(batch: Batch) -> bool:
    """Whether a batch has cost something, or may."""
    if not batch.is_terminal:
        return True
    counts = batch.request_counts
    return bool(counts.completed) if counts is not None else batch.final_status == "completed"
