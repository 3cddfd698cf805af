"""How often a job may still send requests, and since when it waits: both count from a person's last clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pendulum

from siliconflow_provider.batches import Submission
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.job_batches import JobBatches


@dataclass(frozen=True)
class RoundLimits:
    """The rounds of a job that were planned since a person last cleared the task.

    :param rounds: all that are planned, the oldest first
    :param submission: of any part of the job
    """

    rounds: Sequence[Round]
    batches: JobBatches
    submission: Submission

    @property
    def is_cleared(self) -> bool:
        """Whether a person has cleared the task since the newest round was planned."""
        return self._is_cleared_since(self.rounds[-1])

    def rounds_left(self, max_rounds: int) -> int:
        """Return how many rounds may still be planned."""
        return max_rounds - len(self._rounds_since_clear())

    @property
    def started_at(self) -> pendulum.DateTime | None:
        """The moment from which a timeout counts, None while nothing has been submitted since the task was cleared."""
        counted = self._rounds_since_clear()
        moments = (
            batch.timing.created_at
            for each in self.rounds
            for batch in self.batches.batches_of_round(each).values()
            if each in counted or not batch.is_terminal
        )
        return min(filter(None, moments), default=None)

    def _is_cleared_since(self, round_: Round) -> bool:
        ends = [each.timing.ended_at for each in self.batches.batches_of_round(round_).values()]
        planned_at = pendulum.from_timestamp(round_.planned_at)
        ended_at = None if None in ends else max(filter(None, ends), default=planned_at)
        is_cleared = self.submission.is_cleared_since(round_.max_tries, planned_at)
        return is_cleared and self.submission.may_start_over(ended_at)

    def _rounds_since_clear(self) -> list[Round]:
        """Return these rounds, the newest first.

        Only neighbours are compared: a number that clearing sets may have been there many clears ago.
        """
        counted: list[Round] = []
        for each in reversed(self.rounds):
            if each.max_tries != self.rounds[-1].max_tries or self._is_cleared_since(each):
                break
            counted.append(each)
        return counted
