"""Run a job step by step: submit parts, collect results, plan further rounds, publish results and manifest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

import pendulum

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import JOB, REJECTED, REQUESTS, ROWS, JobDirectory, JobFilesError
from siliconflow_provider.jobs.costs import CostLimitError
from siliconflow_provider.jobs.job import Job, describe_changes
from siliconflow_provider.jobs.job_results import JobResults
from siliconflow_provider.jobs.open_job import OpenJob
from siliconflow_provider.jobs.round_limits import RoundLimits
from siliconflow_provider.jobs.round_reasons import RepeatedFailure, find_repeated_failure
from siliconflow_provider.jobs.run_states import Finished, Settings, Waiting
from siliconflow_provider.jobs.spending import Spending
from siliconflow_provider.jobs.steps import Step, next_step
from siliconflow_provider.outputs import ResultStore
from siliconflow_provider.waiting import deadline_of
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)


class JobRunner:
    """One attempt to run a job; create it with `load`.

    The service is the only source for the job's batches; the files hold everything else. If the task's definition has
    changed, the runner publishes the answers to the submitted requests, and submits nothing more.
    """

    def __init__(self, opened: OpenJob, settings: Settings) -> None:
        self.opened = opened
        self._client = opened.client
        self._settings = settings
        self.files = opened.files
        self.job = opened.job
        self.rounds = opened.rounds
        self.job_batches = opened.batches
        self.changes = self.job.changes(settings.submission.keys, settings.definition)
        if "output_type" in self.changes:
            # The task's new output type does not apply to answers of the old one.
            settings = replace(settings, validate=None, output_format=replace(settings.output_format, columns=None))
        self.results = JobResults(opened, settings)
        self.spending = Spending(opened, self.results, settings.costs)
        self.refusal: CostLimitError | None = None
        self.repeated: RepeatedFailure | None = None

    @classmethod
    def load(
        cls, client: SiliconFlowClient, files: JobDirectory, job: Job, settings: Settings, ended: Iterable[Batch] = ()
    ) -> Self:
        """Return the runner of a job with its planned rounds, published results and batches. Cancel duplicate batches.

        :param ended: batches that a wait has seen end
        """
        runner = cls(OpenJob.load(client, files, job, settings, ended), settings)
        runner.results.load_published()
        runner.job_batches.find_until_settled(runner.rounds)
        return runner

    def close(self) -> None:
        """Close and remove the local files."""
        self.results.close()

    def advance(self, timeout: timedelta | None, before_step: Callable[[], None]) -> Waiting | Finished:
        """Submit, collect and resend until the job has to wait for batches or is over.

        :param timeout: for all rounds, from the creation of the first batch; None for one hour more than the
            completion window of each round
        :param before_step: called before each step; raises to stop the job
        :raises JobFilesError: if the definition has changed and nothing was submitted
        :raises SiliconFlowError: if a call to the service fails; a retry resumes the job
        """
        if self.changes:
            self._check_submitted()
        while True:
            before_step()
            deadline = self._deadline(timeout)
            step = self._next_step(deadline)
            if step.action == "submit":
                self._submit_below_limit(step.parts)
            elif step.action == "collect":
                self.collect()
            elif step.action == "new round":
                self.plan_round(self.retryable or [])
            elif step.action == "finish":
                manifest = self.finish(complete=not step.batches and not step.parts)
                return Finished(manifest, step.batches, deadline, self.repeated, self.refusal)
            elif deadline is not None:
                return Waiting([batch.id for batch in step.batches], deadline, step.most_running)

    def _next_step(self, deadline: pendulum.DateTime | None) -> Step:
        retryable = self.retryable
        self.repeated = self._find_repeated_failure() if retryable and self.rounds_left > 0 else None
        return next_step(
            self.parts,
            self.batches,
            retryable=None if retryable is None else len(retryable),
            rounds_left=0 if self.repeated is not None else self.rounds_left,
            deadline=deadline,
            now=self._client.now(),
            may_submit=not self.changes and self.refusal is None,
            max_active_batches=self._settings.max_active_batches,
            is_limited=self.job_batches.is_limited,
        )

    def _find_repeated_failure(self) -> RepeatedFailure | None:
        """Return the reason why a further round would be useless, unless a person has cleared the task since."""
        if self.results.collected is None or self.is_cleared:
            return None
        return find_repeated_failure(self.results.collected, self.rounds[-1], self._client.without_secrets)

    def _deadline(self, timeout: timedelta | None) -> pendulum.DateTime | None:
        now = self._client.now()
        if timeout is not None:
            return (self._limits.started_at or now) + timeout
        return deadline_of(self.running, None, now) if self.running else None

    @property
    def parts(self) -> list[Part]:
        """The parts of the newest round, except those that are published and whose batch the service has deleted."""
        newest = self.rounds[-1]
        return [part for part in newest.parts if not self.results.is_published_and_deleted(newest, part)]

    @property
    def batches(self) -> dict[str, Batch]:
        """The batches of the newest round, by the SHA-256 of their part."""
        return self.job_batches.batches_of_round(self.rounds[-1])

    @property
    def running(self) -> list[Batch]:
        """The batches of the newest round that are not over."""
        return [batch for batch in self.batches.values() if not batch.is_terminal]

    @property
    def _limits(self) -> RoundLimits:
        return self.opened.limits

    @property
    def is_cleared(self) -> bool:
        """True if a person has cleared the task since the newest round was planned."""
        return self._limits.is_cleared

    @property
    def rounds_left(self) -> int:
        """The number of rounds that may still be planned."""
        return 0 if self.changes else self._limits.rounds_left(self._settings.max_rounds)

    @property
    def retryable(self) -> list[int] | None:
        """The positions of the requests for a further round; None until the answers have been collected."""
        if self.changes:
            return []
        collected = self.results.collected
        return None if collected is None else collected.retryable(is_cleared=self.is_cleared)

    def count_resent_when_cleared(self) -> int:
        """Return how many requests are resent if a person clears the task. Collect the answers first if needed."""
        return len((self.results.collected or self.collect()).retryable(is_cleared=True))

    def _check_submitted(self) -> None:
        """Raise if nothing was submitted of a job whose definition has changed.

        :raises SiliconFlowError: if the search for batches failed
        :raises JobFilesError: names the changed arguments
        """
        self.job_batches.check_batches_known(self.rounds)
        if not self.opened.has_batches:
            manifest = self.results.published.manifest
            published = f". The answers so far are in {manifest['paths']['results']}" if manifest else ""
            problem, advice = describe_changes(self.files.url(JOB), self.changes)
            raise JobFilesError(f"{problem}{published}", advice)

    def describe_changes(self) -> str:
        """Return a message that names the changed arguments, and what a person can do."""
        return ".\n".join(describe_changes(self.files.url(JOB), self.changes))

    def _submit_below_limit(self, parts: Sequence[Part]) -> None:
        """Submit these parts, unless the job may cost more than it may. Then its running batches are its last.

        :raises CostLimitError: if the job has no batch
        """
        if not self.opened.has_batches:
            self.spending.check_balance()
        try:
            # A round has to fit as a whole when it begins.
            self.spending.check(parts if self.batches else self.parts)
        except CostLimitError as error:
            if not self.opened.has_batches:
                raise
            self.refusal = error
            return
        except SiliconFlowError:
            self.results.publish_before_failure()
            raise
        self.submit(parts)

    def submit(self, parts: Sequence[Part]) -> None:
        """Submit these parts of the newest round.

        :raises JobFilesError: if the service may have run and deleted their batches
        :raises RequestsLostError: if another attempt has submitted a different job
        """
        self._limits.check_submittable(self.files.url(JOB))
        if self.opened.has_batches:
            # Parts that wait for free batches may wait for weeks.
            self.results.publish_before_deletion()
            self.results.collected = None
        try:
            self.job_batches.submit(self.rounds, parts, self.opened.requests.path(self.rounds[-1]))
        except SiliconFlowError:
            self.results.publish_before_failure()
            raise
        self.job_batches.find_and_cancel_duplicates(self.rounds)
        self._log_waiting_parts()
        # A slow attempt may have written its own job meanwhile; it finds these batches and stops.
        self.files.restore(JOB, *map(self.opened.file_name, (REQUESTS, ROWS, REJECTED)))
        # The rows are read from storage from here on.
        self.files.discard(self.opened.file_name(ROWS))

    def _log_waiting_parts(self) -> None:
        parts, submitted = len(self.parts), len(self.batches)
        if submitted < parts:
            log.info(
                "submitted %s of %s; %s until batches have ended",
                f"{submitted:,}", counted(parts, "part"),
                "1 waits" if parts - submitted == 1 else f"{parts - submitted:,} wait",
            )  # fmt: skip

    def collect(self) -> ResultStore:
        """Fetch the results of all batches that are over.

        :raises SiliconFlowError: if the results of a batch could not be fetched; those of the others are published
        """
        return self.results.collect()

    def plan_round(self, indexes: Sequence[int]) -> None:
        """Write the file of a further round with these requests of the job."""
        number = self.rounds[-1].number + 1
        planned = self.opened.plans.find_planned(number)
        if planned is None:
            self.results.publish_before_deletion()
            results = self.results.collected or self.collect()
            planned = self.opened.plans.write(number, indexes, self.opened.submission.max_tries, results)
        else:
            log.warning("resuming round %d, which another attempt planned at the same time", number)
        self.rounds.append(planned)
        self.results.collected = None
        self.job_batches.find_and_cancel_duplicates(self.rounds)

    def finish(self, *, complete: bool, is_replaced: bool = False) -> dict[str, Any]:
        """Write one row for each request, the report and the manifest, publish them, and return the manifest.

        If the definition has changed, complete results that are already published stay as they are.

        :param is_replaced: True if the task starts a new job, and does not fail with this one
        """
        published = self.results.published
        if self.changes and published.has_all(self.opened.batches_of_parts()):
            return published.manifest
        notes = [self.describe_changes()] if self.changes and not is_replaced else []
        notes += [] if self.refusal is None else [str(self.refusal)]
        notes += [] if self.repeated is None else [self.repeated.describe()]
        return self.results.publish(complete=complete, notes=notes)
