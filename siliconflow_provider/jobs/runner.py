"""A job on its way: its parts submitted, its answers collected, its further rounds planned, its results written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.durations import parse_completion_window
from siliconflow_provider.api.errors import IncompleteListError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import RETENTION, FileRecords, Submission
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import JOB, REQUESTS, RESULTS, ROWS, Files, JobFilesError, own_name
from siliconflow_provider.jobs.job import Job, Kept, describe_changes
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.job_results import JobResults
from siliconflow_provider.jobs.request_files import RequestFiles, RequestsLostError
from siliconflow_provider.jobs.reuse import EarlierAnswers
from siliconflow_provider.jobs.round_limits import RoundLimits
from siliconflow_provider.jobs.round_plans import RoundPlans
from siliconflow_provider.jobs.steps import Step, next_step
from siliconflow_provider.outputs import ResultStore, Validate
from siliconflow_provider.waiting import GRACE_AFTER_EXPIRY, deadline_of

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


@dataclass(frozen=True)
class Waiting:
    """The job waits for batches.

    :param deadline: at which it ends without them
    """

    batch_ids: list[str]
    deadline: pendulum.DateTime


@dataclass(frozen=True)
class Finished:
    """The job is over: results and manifest are published.

    :param running: batches that were not over at the deadline
    :param deadline: None where the job had no batch
    """

    manifest: dict[str, Any]
    running: Sequence[Batch]
    deadline: pendulum.DateTime | None


class JobRunner:
    """One attempt at a job, made by `load`. Only the service tells what was submitted; the files tell the rest.

    A job whose task is defined differently now publishes the answers to what was submitted, and submits nothing more.
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
        self.rounds = [job.first_round]
        self._batches = JobBatches(client, self._submission, FileRecords(files), ended, job.kept)
        # The answers to an earlier output type are not of the one that the task has now.
        validate = None if "output_type" in self.changes else settings.validate
        self._results = JobResults(client, files, job, self._requests, self._batches, validate)

    @classmethod
    def load(
        cls, client: SiliconFlowClient, files: Files, job: Job, settings: Settings, ended: Iterable[Batch] = ()
    ) -> Self:
        """Return the runner of a job, with its published rounds and results, and its batches; duplicates are cancelled.

        :param ended: batches that a wait has seen end
        """
        runner = cls(client, files, job, settings, ended)
        runner.rounds = list(runner._plans.rounds())
        runner._results.load_published()
        runner._batches.find_until_settled(runner.rounds)
        return runner

    def close(self) -> None:
        """Close what was opened, and make room."""
        self._results.close()

    def advance(self, timeout: timedelta | None, before_step: Callable[[], None]) -> Waiting | Finished:
        """Submit, collect and resend, until the job has to wait for batches or is over.

        :param timeout: of all rounds, from the first batch's creation; None for an hour after the window of each round
        :param before_step: called before each step, raises to stop the job
        :raises JobFilesError: when the definition has changed and nothing was submitted
        :raises SiliconFlowError: when the service cannot be asked; a retry goes on
        """
        if self.changes:
            self._check_submitted()
        while True:
            before_step()
            deadline = self._deadline(timeout)
            step = self._next_step(deadline)
            if step.action == "submit":
                self.submit(step.parts)
            elif step.action == "collect":
                self.collect()
            elif step.action == "new round":
                self.plan_round(self.retryable or [])
            elif step.action == "finish":
                manifest = self.finish(complete=not step.batches and not step.parts)
                return Finished(manifest, step.batches, deadline)
            elif deadline is not None:
                return Waiting([each.id for each in step.batches], deadline)

    def _next_step(self, deadline: pendulum.DateTime | None) -> Step:
        retryable = self.retryable
        return next_step(
            self.parts,
            self.batches,
            retryable=None if retryable is None else len(retryable),
            rounds_left=self.rounds_left,
            deadline=deadline,
            now=self._client.now(),
            may_submit=not self.changes,
        )

    def _deadline(self, timeout: timedelta | None) -> pendulum.DateTime | None:
        now = self._client.now()
        if timeout is not None:
            return (self._limits.started_at or now) + timeout
        return deadline_of(self.running, None, now) if self.running else None

    @property
    def parts(self) -> list[Part]:
        """The parts of the newest round, but for those that the service has run and forgotten."""
        newest = self.rounds[-1]
        return [each for each in newest.parts if not self._results.is_forgotten(newest, each)]

    @property
    def batches(self) -> dict[str, Batch]:
        """The batches of the newest round, by the SHA-256 of their part."""
        return self._batches.of_round(self.rounds[-1])

    @property
    def running(self) -> list[Batch]:
        """The batches of the newest round that are not over."""
        return [each for each in self.batches.values() if not each.is_terminal]

    @property
    def has_batches(self) -> bool:
        """Whether anything of the job has been submitted."""
        return any(map(self._batches.of_round, self.rounds))

    def find_running_elsewhere(self) -> list[Batch]:
        """Return the batches of this task instance that still run and are of no part of this job."""
        return self._batches.find_running_elsewhere()

    @property
    def _limits(self) -> RoundLimits:
        return RoundLimits(self.rounds, self._batches, self._submission)

    @property
    def is_cleared(self) -> bool:
        """Whether a person has let the task start over since the newest round was planned."""
        return self._limits.is_cleared

    @property
    def rounds_left(self) -> int:
        """How many rounds may still be planned."""
        return 0 if self.changes else self._limits.rounds_left(self._settings.max_rounds)

    @property
    def retryable(self) -> list[int] | None:
        """The positions of requests for a further round; None until the answers have been collected."""
        if self.changes:
            return []
        collected = self._results.collected
        return None if collected is None else collected.retryable(is_cleared=self.is_cleared)

    def count_resent_when_cleared(self) -> int:
        """Return how many requests are sent again once a person clears the task; collects the answers if needed."""
        return len((self._results.collected or self.collect()).retryable(is_cleared=True))

    def check_found(self) -> None:
        """Raise where it is not known which batches the job has.

        :raises SiliconFlowError: which a retry may heal
        """
        is_whole = all(self._batches.of_part(each, part) is not None for each in self.rounds for part in each.parts)
        error = self._batches.error
        # What is written down is enough where the service cannot list all batches.
        if error is not None and not is_whole and not isinstance(error, IncompleteListError):
            raise error

    def _check_submitted(self) -> None:
        """Raise where nothing was submitted of a job whose definition has changed.

        :raises SiliconFlowError: when that is not known
        :raises JobFilesError: with what has changed
        """
        self.check_found()
        if not self.has_batches:
            landed = (
                f". What it has answered is in {self._files.url(RESULTS)}" if self._results.published.manifest else ""
            )
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
            results = self._files.fetch(RESULTS) if own or self._results.published.manifest else None
            if earlier is not None and results is not None:
                earlier.add(self._requests.path(self._job.all_requests), results)
        except RequestsLostError as error:
            if earlier is not None:
                raise
            log.warning("the answers of the job before are not written: %s", error)
        self.close()
        running = [each for each in (*own, *self.find_running_elsewhere()) if not each.is_terminal]
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
        self._batches.find_and_cancel_duplicates(self.rounds)
        # An attempt that was late may have written its own job meanwhile; it finds these batches and stops.
        self._files.restore(JOB, self._own(REQUESTS), self._own(ROWS))
        # From here on they are read where they are stored.
        self._files.discard(self._own(ROWS))

    def collect(self) -> ResultStore:
        """Fetch the results of all batches that are over.

        :raises SiliconFlowError: when those of some batches could not be fetched; the others' are published by then
        """
        return self._results.collect(self.rounds, is_cleared=self.is_cleared)

    def plan_round(self, indexes: Sequence[int]) -> None:
        """Write the file of a further round, with these requests of the job."""
        number = self.rounds[-1].number + 1
        planned = self._plans.look_for(number)
        if planned is None:
            self._publish_before_it_is_forgotten()
            planned = self._plans.write(number, indexes, self._submission.max_tries)
            log.info("round %d: %d requests are sent again, in %d batches", number, len(indexes), len(planned.parts))
        else:
            log.warning("round %d was planned by another attempt at the same time: it is taken over", number)
        self.rounds.append(planned)
        self._results.collected = None
        self._batches.find_and_cancel_duplicates(self.rounds)

    def finish(self, *, complete: bool) -> dict[str, Any]:
        """Write one row a request and the manifest, publish both, and return the manifest.

        Where the definition has changed, what was written under the job's own one stays.
        """
        published = self._results.published
        if self.changes and published.has_all(self._results.batches_of_parts(self.rounds)):
            return published.manifest
        return self._results.publish(self.rounds, complete=complete, is_cleared=self.is_cleared)

    def _publish_before_it_is_forgotten(self) -> None:
        """Publish the answers, if the service may have forgotten it when a further round is over.

        Also if results are lost already, so that these are not asked for again for an hour.
        """
        over_at = clock.now() + parse_completion_window(self._submission.completion_window) + GRACE_AFTER_EXPIRY
        if self._results.is_any_lost or any(each + RETENTION <= over_at for each in self._batches.created_at):
            self.finish(complete=False)

    def _own(self, name: str) -> str:
        return own_name(name, self._job.directory)
