"""A job on its way: its parts submitted, its answers collected, its further rounds planned, its results written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.durations import parse_completion_window
from siliconflow_provider.api.errors import IncompleteListError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.listing import RETENTION
from siliconflow_provider.batches.records import FileRecords
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.batches.waiting import GRACE
from siliconflow_provider.inputs.parts import Part
from siliconflow_provider.job_directory import JOB, KEPT, REQUESTS, RESULTS, ROWS, Files, JobFilesError, own_name
from siliconflow_provider.jobs.job import Job, Kept, Round, describe_changes
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.publication import BatchOfPart, EarlierResults, publish_results, rows_in
from siliconflow_provider.jobs.request_files import RequestFiles, RequestsLostError
from siliconflow_provider.jobs.retrieval import Retrieval
from siliconflow_provider.jobs.reuse import EarlierAnswers
from siliconflow_provider.jobs.round_plans import RoundPlans
from siliconflow_provider.outputs.result_store import ResultStore, Validate
from siliconflow_provider.outputs.row_errors import RowErrors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How the parts of a job are submitted and read.

    :param submission: of any part; file, content and round are the part's
    :param max_rounds: that a task may send before a person clears it
    :param validate: may turn a row that succeeded into an invalid one
    :param definition: hashes of what the task asks for, by their name
    """

    submission: Submission
    max_rounds: int
    validate: Validate | None = None
    definition: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HandedOver:
    """What a job leaves to the one that replaces it.

    :param running: batches of the task that are not over
    """

    kept: Kept
    running: list[Batch]


class JobRunner:
    """One attempt at a job. What has been submitted it learns from the service, everything else from the files.

    A job that is defined otherwise than its task lands what was submitted, as it was defined, and buys nothing more.

    :param ended: batches that a wait has seen end
    """

    def __init__(
        self, client: SiliconFlowClient, files: Files, job: Job, settings: Settings, ended: Iterable[Batch] = ()
    ) -> None:
        self._client = client
        self._files = files
        self._requests = RequestFiles(files, job.directory)
        self._job = job
        self._settings = settings
        self.changes = job.changes(settings.submission.keys, settings.definition)
        window = job.completion_window or settings.submission.completion_window
        self._submission = replace(settings.submission, key=job.key, completion_window=window)
        self._plans = RoundPlans(files, job, self._requests)
        self.rounds = list(self._plans.rounds())
        self._landed = EarlierResults.read(files, job)
        self._answers: ResultStore | None = None
        self._collected: IO[bytes] | None = None
        self._whole_errors: IO[bytes] | None = None
        self._is_any_lost = False
        self._batches = JobBatches(client, self._submission, FileRecords(files), ended, job.kept)
        self._batches.look_until_settled(self.rounds)

    def close(self) -> None:
        """Close what was opened, and make room."""
        for name, file in (("collected", self._collected), ("collected-errors", self._whole_errors)):
            if file is not None:
                file.close()
                self._files.discard(name)

    @property
    def parts(self) -> list[Part]:
        """The parts of the newest round, but for those that the service has run and forgotten."""
        newest = self.rounds[-1]
        return [each for each in newest.parts if not self._retrieval.is_forgotten(newest, each)]

    @property
    def batches(self) -> dict[str, Batch]:
        """The batches of the newest round, by the SHA-256 of their part."""
        return self._batches.of_round(self.rounds[-1])

    @property
    def has_batches(self) -> bool:
        """Whether anything of the job has been submitted."""
        return any(map(self._batches.of_round, self.rounds))

    @property
    def running_elsewhere(self) -> list[Batch]:
        """The batches of this task instance that still run and are of no part of this job."""
        return self._batches.running_elsewhere()

    @property
    def is_cleared(self) -> bool:
        """Whether a person has let the task start over since the newest round was planned."""
        return self._is_cleared_since(self.rounds[-1])

    def _is_cleared_since(self, round_: Round) -> bool:
        ends = [each.timing.ended_at for each in self._batches.of_round(round_).values()]
        planned_at = pendulum.from_timestamp(round_.planned_at)
        ended_at = None if None in ends else max(filter(None, ends), default=planned_at)
        is_cleared = self._submission.is_cleared_since(round_.max_tries, planned_at)
        return is_cleared and self._submission.may_start_over(ended_at)

    @property
    def _granted_rounds(self) -> list[Round]:
        """The rounds that were planned since a person last cleared the task, the newest first.

        Only neighbours are compared: a number that clearing sets may have been there many clears ago.
        """
        granted: list[Round] = []
        for each in reversed(self.rounds):
            if each.max_tries != self.rounds[-1].max_tries or self._is_cleared_since(each):
                break
            granted.append(each)
        return granted

    @property
    def rounds_left(self) -> int:
        """How many rounds may still be planned."""
        return 0 if self.changes else self._settings.max_rounds - len(self._granted_rounds)

    @property
    def started_at(self) -> pendulum.DateTime | None:
        """The moment from which a timeout counts, None while nothing has been submitted since the task was cleared."""
        granted = self._granted_rounds
        moments = (
            batch.timing.created_at
            for each in self.rounds
            for batch in self._batches.of_round(each).values()
            if each in granted or not batch.is_terminal
        )
        return min(filter(None, moments), default=None)

    @property
    def retryable(self) -> list[int] | None:
        """The positions of requests for a further round; None until the answers have been collected."""
        if self.changes:
            return []
        return None if self._answers is None else self._answers.retryable(is_cleared=self.is_cleared)

    @property
    def repeated_when_cleared(self) -> int:
        """How many requests a person sends again who clears the task."""
        return len((self._answers or self.collect()).retryable(is_cleared=True))

    def check_found(self) -> None:
        """Raise where it is not known which batches the job has.

        :raises SiliconFlowError: which a retry may heal
        """
        is_whole = all(self._batches.of_part(each, part) is not None for each in self.rounds for part in each.parts)
        error = self._batches.error
        # What is written down is enough where the service cannot list all batches.
        if error is not None and not is_whole and not isinstance(error, IncompleteListError):
            raise error

    def check_landable(self) -> None:
        """Raise where a job whose definition has changed has nothing to land.

        :raises SiliconFlowError: when that is not known
        :raises JobFilesError: with what has changed
        """
        self.check_found()
        if not self.has_batches:
            landed = f". What it has answered is in {self._files.url(RESULTS)}" if self._landed.manifest else ""
            raise JobFilesError(f"{self.describe_changes()}{landed}")

    def hand_over(self, earlier: EarlierAnswers | None) -> HandedOver:
        """Land what the batches that are over have answered, for a job that replaces this one.

        :param earlier: is given the answers; None when they are not wanted
        :raises RequestsLostError: when they are, and it is not known what they answer
        """
        self.check_found()
        own = [batch for each in self.rounds for batch in self._batches.of_round(each).values()]
        try:
            if own:
                self.finish(complete=all(each.is_terminal for each in own))
            results = self._files.fetch(RESULTS) if own or self._landed.manifest else None
            if earlier is not None and results is not None:
                earlier.add(self._requests.path(self._job.all_requests), results)
        except RequestsLostError as error:
            if earlier is not None:
                raise
            log.warning("the answers of the job before are not written: %s", error)
        self.close()
        running = [each for each in (*own, *self.running_elsewhere) if not each.is_terminal]
        return HandedOver(Kept(collected=self._batches.collected, others=self._batches.others), running)

    def describe_changes(self) -> str:
        """Say that the job is not that of its task any more, and what a person can do."""
        return describe_changes(self._files.url(JOB), self.changes)

    def submit(self, parts: Sequence[Part]) -> None:
        """Submit these parts of the newest round.

        :raises JobFilesError: when the service may have run and forgotten them
        :raises RequestsLostError: when another attempt has submitted other requests
        """
        newest = self.rounds[-1]
        if self._batches.foreign_batches:
            raise RequestsLostError(
                "another attempt of this task has submitted other requests "
                f"({self._batches.foreign_batches[0].id} and others), and puts its {self._files.url(JOB)} back: a "
                "retry goes on with it. If none does, cancel these, or let them end, and begin anew with another "
                "submission_key"
            )
        age = clock.now() - pendulum.from_timestamp(newest.planned_at)
        if age > RETENTION and not self.is_cleared:
            raise JobFilesError(
                f"round {newest.number} of {self._files.url(JOB)} is {age.days} days old, and the service forgets "
                f"after {RETENTION.days}: whether its batches were paid for is not known. Clear the task to submit "
                "what has no answer"
            )
        self._batches.submit(self.rounds, parts, self._requests.path(newest))
        self._batches.look(self.rounds)
        # An attempt that was late may have written its own job meanwhile; it finds these batches and stops.
        self._files.restore(JOB, self._own(REQUESTS), self._own(ROWS))
        # From here on they are read where they are stored.
        self._files.discard(self._own(ROWS))

    def collect(self) -> ResultStore:
        """Fetch what all batches that are over have answered.

        :raises SiliconFlowError: when that of some could not be fetched; the others' answers are written by then
        """
        self.close()
        self._collected, self._whole_errors = self._files.create("collected"), self._files.create("collected-errors")
        # Of the type that its answers were asked for, nothing is left.
        validate = None if "output_type" in self.changes else self._settings.validate
        errors = RowErrors(self._whole_errors, self._client.without_secrets)
        answers = ResultStore(self._job.requests, self._collected, validate, errors)
        self._take_kept(answers)
        outcome = self._retrieval.fill(answers, self.rounds)
        if answers.duplicates or answers.unknown_requests:
            log.warning(
                "left out of the results: %d lines that repeat a request, %d of requests that nobody sent",
                answers.duplicates, answers.unknown_requests,
            )  # fmt: skip
        self._answers, self._is_any_lost = answers, outcome.is_any_lost
        if outcome.failures:
            self._land_all_but_failed(answers)
            raise outcome.failures[0]
        return answers

    def plan_round(self, indexes: Sequence[int]) -> None:
        """Write the file of a further round, with these requests of the job."""
        number = self.rounds[-1].number + 1
        planned = self._plans.look_for(number)
        if planned is None:
            self._land_what_cannot_be_fetched_later()
            planned = self._plans.write(number, indexes, self._submission.max_tries)
            log.info("round %d: %d requests are sent again, in %d batches", number, len(indexes), len(planned.parts))
        else:
            log.warning("round %d was planned by another attempt at the same time: it is taken over", number)
        self.rounds.append(planned)
        self._answers = None
        self._batches.look(self.rounds)

    def finish(self, *, complete: bool) -> dict[str, Any]:
        """Write one row a request and the manifest, publish both, and return the manifest.

        Where the definition has changed, what was written under the job's own one stays.
        """
        if self.changes and self._landed.has_all(self._batches_of_parts()):
            return self._landed.manifest
        answers = self._answers or self.collect()
        # Collecting has asked for each batch: from an event or a list, not all of its errors are known.
        batches = self._batches_of_parts()
        # All that was asked is known to the answers by now.
        self._requests.release()
        manifest = publish_results(self._files, self._job, answers, batches, self._landed, complete=complete)
        self._landed = EarlierResults.read(self._files, self._job)
        return manifest

    def _batches_of_parts(self) -> list[BatchOfPart]:
        return [
            (each, part, batch)
            for each in self.rounds
            for part in each.parts
            if (batch := self._batches.of_part(each, part)) is not None
        ]

    @property
    def _retrieval(self) -> Retrieval:
        return Retrieval(
            self._client, self._files, self._requests, self._job.requests, self._batches, self._landed, self.is_cleared
        )

    def _land_all_but_failed(self, answers: ResultStore) -> None:
        """Write down what is answered, unless that is nothing."""
        if answers.counts().keys() - {"unfinished"}:
            self.finish(complete=False)
            log.warning("what could be fetched is written to %s", self._files.url(RESULTS))
        self._answers = None

    def _land_what_cannot_be_fetched_later(self) -> None:
        """Write down what is answered, if the service may have forgotten it when a further round is over.

        So that what is lost already is not asked for again for an hour, it is written down too.
        """
        over_at = clock.now() + parse_completion_window(self._submission.completion_window) + GRACE
        if self._is_any_lost or any(each + RETENTION <= over_at for each in self._batches.created_at):
            self.finish(complete=False)

    def _take_kept(self, answers: ResultStore) -> None:
        """Take in the answers that were kept when this job replaced another.

        :raises RequestsLostError: when they are gone
        """
        kept = 0 if self._job.kept is None else self._job.kept.rows
        for row in rows_in(self._files, self._own(KEPT)) if kept else ():
            answers.add_earlier_row(row, is_billed=False)
            kept -= 1
        if kept:
            raise RequestsLostError(
                f"{self._files.url(self._own(KEPT))} is missing or truncated; restore it: it has answers that were "
                "kept when this job replaced another one"
            )

    def _own(self, name: str) -> str:
        return own_name(name, self._job.directory)
