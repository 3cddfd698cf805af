"""Say which rounds a job may still send, and when its timeout starts, counted from a person's last clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.batches import RETENTION, Submission
from siliconflow_provider.job_directory import JobFilesError
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.wording import counted


@dataclass(frozen=True)
class RoundLimits:
    """Count the rounds of a job that were planned since a person last cleared the task.

    :param rounds: all planned rounds, the oldest first
    :param submission: the submission of any part of the job
    """

    rounds: Sequence[Round]
    batches: JobBatches
    submission: Submission

    @property
    def is_cleared(self) -> bool:
        """True if a person has cleared the task since the newest round was planned."""
        return self._is_cleared_since(self.rounds[-1])

    def rounds_left(self, max_rounds: int) -> int:
        """Return the number of rounds that may still be planned."""
        return max_rounds - len(self._rounds_since_clear())

    def check_submittable(self, url: str) -> None:
        """Raise unless the parts of the newest round may be submitted.

        :param url: the URL of the job's file
        :raises JobFilesError: if the service may have run and deleted their batches
        :raises RequestsLostError: if another attempt has submitted a different job
        """
        newest, foreign = self.rounds[-1], self.batches.foreign_batches
        if foreign:
            raise RequestsLostError(
                "another attempt of this task already submitted a different job "
                f"({foreign[0].id} and others).\nRetry to resume it: that attempt restores {url}.\nIf retries do not "
                "help, cancel those batches, or wait until they are over, and set a new submission_key"
            )
        age = clock.now() - pendulum.from_timestamp(newest.planned_at)
        if age > RETENTION and not self.is_cleared:
            raise JobFilesError(
                f"round {newest.number} of {url} is {counted(age.days, 'day')} old, and the service deletes batches "
                f"after {RETENTION.days} days: it is unknown whether its batches were billed",
                "Clear the task to submit the requests that have no answer",
            )

    @property
    def started_at(self) -> pendulum.DateTime | None:
        """The start of the timeout; None if nothing has been submitted since the task was cleared."""
        recent = self._rounds_since_clear()
        moments = (
            batch.timing.created_at
            for round_ in self.rounds
            for batch in self.batches.batches_of_round(round_).values()
            if round_ in recent or not batch.is_terminal
        )
        return min(filter(None, moments), default=None)

    def _is_cleared_since(self, round_: Round) -> bool:
        ends = [batch.timing.ended_at for batch in self.batches.batches_of_round(round_).values()]
        planned_at = pendulum.from_timestamp(round_.planned_at)
        ended_at = None if None in ends else max(filter(None, ends), default=planned_at)
        is_cleared = self.submission.is_cleared_since(round_.max_tries, planned_at)
        return is_cleared and self.submission.may_start_over(ended_at)

    def _rounds_since_clear(self) -> list[Round]:
        """Return the rounds since the last clear, the newest first.

        Stop at the first round with another `max_tries`: an earlier clear may have set the same number.
        """
        recent: list[Round] = []
        for round_ in reversed(self.rounds):
            if round_.max_tries != self.rounds[-1].max_tries or self._is_cleared_since(round_):
                break
            recent.append(round_)
        return recent
