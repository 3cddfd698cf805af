"""A job on its way: its parts submitted, its answers collected, its further rounds planned, its results written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.durations import parse_completion_window
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.batches import JobBatches
from siliconflow_provider.jobs.collection import Answers, Validate
from siliconflow_provider.jobs.files import (
    JOB,
    REQUESTS,
    RESULTS,
    ROWS,
    Files,
    JobFilesError,
    RequestFiles,
    RequestsLostError,
    plan_name,
    requests_name,
)
from siliconflow_provider.jobs.job import Job, PlannedRound, Round
from siliconflow_provider.jobs.landing import Landed, land
from siliconflow_provider.jobs.listing import RETENTION
from siliconflow_provider.jobs.parts import Part, PartWriter
from siliconflow_provider.jobs.records import FileRecords
from siliconflow_provider.jobs.request_lines import read_request
from siliconflow_provider.jobs.retrieval import Retrieval
from siliconflow_provider.jobs.submission import Submission
from siliconflow_provider.jobs.waiting import GRACE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How the parts of a job are submitted and read.

    :param submission: of any part; file, content and round are the part's
    :param max_rounds: that a task may send before a person clears it
    :param validate: may turn a row that succeeded into an invalid one
    """

    submission: Submission
    max_rounds: int
    validate: Validate | None = None


class JobRunner:
    """One attempt at a job. What has been submitted it learns from the service, everything else from the files.

    :param ended: batches that a wait has seen end
    """

    def __init__(
        self, client: SiliconFlowClient, files: Files, job: Job, settings: Settings, ended: Iterable[Batch] = ()
    ) -> None:
        self._client = client
        self._files = files
        self._requests = RequestFiles(files)
        self._job = job
        self._settings = settings
        self.rounds = list(self._planned_rounds())
        self._landed = Landed.read(files, job)
        self._answers: Answers | None = None
        self._collected: IO[bytes] | None = None
        self._is_any_lost = False
        self._batches = JobBatches(client, settings.submission, FileRecords(files), ended)
        self._batches.look_until_settled(self.rounds)

    def close(self) -> None:
        """Close what was opened."""
        if self._collected is not None:
            self._collected.close()

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
    def is_cleared(self) -> bool:
        """Whether a person has let the task start over since the newest round was planned."""
        newest, submission = self.rounds[-1], self._settings.submission
        ends = [each.timing.ended_at for each in self.batches.values()]
        planned_at = pendulum.from_timestamp(newest.planned_at)
        ended_at = None if None in ends else max(filter(None, ends), default=planned_at)
        return submission.is_cleared_since(newest.max_tries, planned_at) and submission.may_start_over(ended_at)

    @property
    def rounds_left(self) -> int:
        """How many rounds may still be planned."""
        is_cleared_since = self._settings.submission.is_cleared_since
        used = [
            each for each in self.rounds
            if not is_cleared_since(each.max_tries, pendulum.from_timestamp(each.planned_at))
        ]  # fmt: skip
        return self._settings.max_rounds - len(used)

    @property
    def started_at(self) -> pendulum.DateTime | None:
        """The moment from which a timeout counts, None while nothing has been submitted."""
        return self._batches.started_at

    @property
    def to_repeat(self) -> list[int] | None:
        """The positions of requests for a further round; None until the answers have been collected."""
        return None if self._answers is None else self._answers.to_repeat(is_cleared=self.is_cleared)

    @property
    def repeated_when_cleared(self) -> int:
        """How many requests a person sends again who clears the task."""
        return len((self._answers or self.collect()).to_repeat(is_cleared=True))

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
        self._files.restore(JOB, REQUESTS, ROWS)

    def collect(self) -> Answers:
        """Fetch what all batches that are over have answered.

        :raises SiliconFlowError: when that of some could not be fetched; the others' answers are written by then
        """
        self.close()
        self._collected = self._files.create("collected")
        answers = Answers(self._job.requests, self._collected, self._settings.validate)
        outcome = self._retrieval.fill(answers, self.rounds)
        if answers.duplicates or answers.strangers:
            log.warning(
                "left out of the results: %d lines that repeat a request, %d of requests that nobody sent",
                answers.duplicates, answers.strangers,
            )  # fmt: skip
        self._answers, self._is_any_lost = answers, outcome.is_any_lost
        if outcome.failures:
            self._land_all_but_failed(answers)
            raise outcome.failures[0]
        return answers

    def plan_round(self, indexes: Sequence[int]) -> None:
        """Write the file of a further round, with these requests of the job."""
        number = self.rounds[-1].number + 1
        # An older job's was there when this attempt began.
        self._files.discard(plan_name(number))
        planned = self._planned(number)
        if planned is None:
            self._land_what_cannot_be_fetched_later()
            planned = self._plan(number, indexes)
            log.info("round %d: %d requests are sent again, in %d batches", number, len(indexes), len(planned.parts))
        else:
            log.warning("round %d was planned by another attempt at the same time: it is taken over", number)
        self.rounds.append(planned)
        self._answers = None
        self._batches.look(self.rounds)

    def finish(self, *, complete: bool) -> dict[str, Any]:
        """Write one row a request and the manifest, publish both, and return the manifest."""
        answers = self._answers or self.collect()
        batches = [
            (each, part, batch)
            for each in self.rounds
            for part in each.parts
            if (batch := self._batches.of_part(each, part)) is not None
        ]
        manifest = land(
            self._files, self._job, answers, batches, self._landed, custom_ids=self._custom_ids, complete=complete
        )
        self._landed = Landed.read(self._files, self._job)
        return manifest

    @property
    def _retrieval(self) -> Retrieval:
        return Retrieval(
            self._client, self._files, self._requests, self._job.requests, self._batches, self._landed, self.is_cleared
        )

    def _plan(self, number: int, indexes: Sequence[int]) -> Round:
        wanted = iter(indexes)
        following = next(wanted, None)
        with self._files.create(requests_name(number)) as file:
            writer = PartWriter(file)
            with self._requests.path(self._job.first_round).open("rb") as lines:
                for index, line in enumerate(lines):
                    if index == following:
                        writer.write(line)
                        following = next(wanted, None)
            parts = writer.finish()
        planned = Round(number, parts, self._settings.submission.max_tries, clock.now().int_timestamp, list(indexes))
        self._files.publish(requests_name(number))
        # The plan comes last: where it is, its requests are.
        self._files.publish_json(plan_name(number), PlannedRound(self._job.id, planned))
        return planned

    def _land_all_but_failed(self, answers: Answers) -> None:
        """Write down what is answered, unless that is nothing."""
        if answers.counts().keys() - {"unfinished"}:
            self.finish(complete=False)
            log.warning("what could be fetched is written to %s", self._files.url(RESULTS))
        self._answers = None

    def _land_what_cannot_be_fetched_later(self) -> None:
        """Write down what is answered, if the service may have forgotten it when a further round is over.

        So that what is lost already is not asked for again for an hour, it is written down too.
        """
        over_at = clock.now() + parse_completion_window(self._settings.submission.completion_window) + GRACE
        if self._is_any_lost or any(each + RETENTION <= over_at for each in self._batches.created_at):
            self.finish(complete=False)

    def _planned(self, number: int) -> Round | None:
        planned = self._files.read_json(plan_name(number), PlannedRound)
        return planned.round if planned is not None and planned.job_id == self._job.id else None

    def _planned_rounds(self) -> Iterator[Round]:
        planned: Round | None = self._job.first_round
        while planned is not None:
            yield planned
            planned = self._planned(planned.number + 1)

    def _custom_ids(self, positions: set[int]) -> dict[int, str]:
        if not positions:
            return {}
        with self._requests.path(self._job.first_round).open("rb") as lines:
            return {index: read_request(line).custom_id for index, line in enumerate(lines) if index in positions}
