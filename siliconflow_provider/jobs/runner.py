"""Run a job step by step: submit parts, collect results, plan further rounds, publish results and manifest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.durations import parse_completion_window
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import RETENTION, FileRecords
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import (
    JOB,
    REJECTED,
    REQUESTS,
    ROWS,
    JobDirectory,
    JobFilesError,
    job_file_name,
)
from siliconflow_provider.jobs.costs import CostLimitError, check_balance
from siliconflow_provider.jobs.job import Job, describe_changes
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.job_results import JobResults
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.jobs.round_limits import RoundLimits
from siliconflow_provider.jobs.round_plans import RoundPlans
from siliconflow_provider.jobs.round_reasons import RepeatedFailure, find_repeated_failure
from siliconflow_provider.jobs.run_states import Finished, Settings, Waiting
from siliconflow_provider.jobs.spending import Spending
from siliconflow_provider.jobs.steps import Step, next_step
from siliconflow_provider.outputs import ResultStore, bill_of_batches
from siliconflow_provider.waiting import GRACE_AFTER_EXPIRY, deadline_of
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)


class JobRunner:
    """One attempt to run a job; create it with `load`.

    The service is the only source for the job's batches; the files hold everything else. If the task's definition has
    changed, the runner publishes the answers to the submitted requests, and submits nothing more.
    """

    def __init__(
        self, client: SiliconFlowClient, files: JobDirectory, job: Job, settings: Settings, ended: Iterable[Batch] = ()
    ) -> None:
        self._client = client
        self.files = files
        self.requests = RequestFiles(files, job.directory)
        self.job = job
        self._settings = settings
        self.changes = job.changes(settings.submission.keys, settings.definition)
        window = job.completion_window or settings.submission.completion_window
        self._submission = replace(settings.submission, key=job.key, completion_window=window)
        self._plans = RoundPlans(files, job, self.requests)
        self.rounds = [job.first_round]
        self.job_batches = JobBatches(
            client, self._submission, FileRecords(files), ended, job.inherited, settings.announce
        )
        # The task's new output type does not apply to answers of the old one.
        is_same_type = "output_type" not in self.changes
        validate = settings.validate if is_same_type else None
        output_format = settings.output_format if is_same_type else replace(settings.output_format, columns=None)
        self._price = settings.costs.price_of(job.model or None)
        self.results = JobResults(
            client, files, job, self.requests, self.job_batches, validate, self._price, output_format,
            settings.min_success_rate,
        )  # fmt: skip
        self._spending = Spending(client, files, job, self.requests, self.job_batches, self.results)
        self.refusal: CostLimitError | None = None
        self.repeated: RepeatedFailure | None = None

    @classmethod
    def load(
        cls, client: SiliconFlowClient, files: JobDirectory, job: Job, settings: Settings, ended: Iterable[Batch] = ()
    ) -> Self:
        """Return the runner of a job with its planned rounds, published results and batches. Cancel duplicate batches.

        :param ended: batches that a wait has seen end
        """
        runner = cls(client, files, job, settings, ended)
        runner.rounds = list(runner._plans.rounds())
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
    def has_batches(self) -> bool:
        """True if any part of the job has a batch."""
        return any(map(self.job_batches.batches_of_round, self.rounds))

    def find_other_running_batches(self) -> list[Batch]:
        """Return the running batches of this task instance that belong to no part of this job."""
        return self.job_batches.find_other_running_batches()

    @property
    def _limits(self) -> RoundLimits:
        return RoundLimits(self.rounds, self.job_batches, self._submission)

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
        if not self.has_batches:
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
        if not self.has_batches:
            bound = None if not self.job.estimate else self.job.estimate["most_cost"]
            check_balance(self._client, None if bound is None else Decimal(bound))
        try:
            # A round has to fit as a whole when it begins.
            self._spending.check(self._settings.costs, self.rounds, parts if self.batches else self.parts)
        except CostLimitError as error:
            if not self.has_batches:
                raise
            self.refusal = error
            return
        except SiliconFlowError:
            self._publish_before_failure()
            raise
        self.submit(parts)

    def submit(self, parts: Sequence[Part]) -> None:
        """Submit these parts of the newest round.

        :raises JobFilesError: if the service may have run and deleted their batches
        :raises RequestsLostError: if another attempt has submitted a different job
        """
        self._limits.check_submittable(self.files.url(JOB))
        if self.has_batches:
            # Parts that wait for free batches may wait for weeks.
            self._publish_before_deletion()
            self.results.collected = None
        try:
            self.job_batches.submit(self.rounds, parts, self.requests.path(self.rounds[-1]))
        except SiliconFlowError:
            self._publish_before_failure()
            raise
        self.job_batches.find_and_cancel_duplicates(self.rounds)
        self._log_waiting_parts()
        # A slow attempt may have written its own job meanwhile; it finds these batches and stops.
        self.files.restore(JOB, *map(self._job_file, (REQUESTS, ROWS, REJECTED)))
        # The rows are read from storage from here on.
        self.files.discard(self._job_file(ROWS))

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
        return self.results.collect(self.rounds, is_cleared=self.is_cleared)

    def plan_round(self, indexes: Sequence[int]) -> None:
        """Write the file of a further round with these requests of the job."""
        number = self.rounds[-1].number + 1
        planned = self._plans.find_planned(number)
        if planned is None:
            self._publish_before_deletion()
            results = self.results.collected or self.collect()
            planned = self._plans.write(number, indexes, self._submission.max_tries, results)
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
        if self.changes and published.has_all(self.results.batches_of_parts(self.rounds)):
            return published.manifest
        notes = [self.describe_changes()] if self.changes and not is_replaced else []
        notes += [] if self.refusal is None else [str(self.refusal)]
        notes += [] if self.repeated is None else [self.repeated.describe()]
        return self.results.publish(self.rounds, complete=complete, is_cleared=self.is_cleared, notes=notes)

    def bill_of_attempt(self, manifest: dict[str, Any]) -> dict[str, Any] | None:
        """Return tokens and cost of the batches that this attempt has created, also before it was deferred.

        :return: None if it is not recorded which attempt created a batch
        """
        reports, tries = manifest["batches"], self.job_batches.tries
        if any(report["id"] not in tries for report in reports):
            return None
        own = [report for report in reports if tries[report["id"]] == self._submission.try_number]
        return {"batches": [report["id"] for report in own], **bill_of_batches(own, self._price)}

    def _publish_before_deletion(self) -> None:
        """Publish the answers if the service may delete them before a further round is over.

        Publish them also if results are already lost: otherwise the next attempt tries to fetch these for an hour.
        """
        over_at = clock.now() + parse_completion_window(self._submission.completion_window) + GRACE_AFTER_EXPIRY
        is_any_old = any(created_at + RETENTION <= over_at for created_at in self.job_batches.created_at)
        if self.results.is_any_lost or is_any_old:
            self.finish(complete=False)

    def _publish_before_failure(self) -> None:
        """Publish the answers of batches that are over, since a task that fails may not run again."""
        if any(batch.is_terminal for _, _, batch in self.results.batches_of_parts(self.rounds)):
            try:
                self.finish(complete=False)
            except SiliconFlowError as error:
                log.warning("could not publish the answers so far: %s", error)

    def _job_file(self, name: str) -> str:
        return job_file_name(name, self.job.directory)
