"""The answers of a job's batches, fetched, and what became of the requests that none of them mentions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.recovery import GIVE_UP_AFTER
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import JobDirectory, JobFilesError
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.publication import EarlierResults
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.jobs.round_retrieval import RoundRetrieval, Tolerance, indexes_by_id, row_without_answer
from siliconflow_provider.outputs import AnswerError, ResultStore


@dataclass(frozen=True)
class Outcome:
    """How it went to fetch the answers of a job.

    :param failures: of the parts that could not be fetched
    :param is_any_lost: whether requests have no answer because the service has lost it
    """

    failures: list[SiliconFlowError]
    is_any_lost: bool


@dataclass(frozen=True)
class Retrieval:
    """Fetches what all batches of a job that are over have answered.

    :param requests_count: of the job
    :param landed: what an earlier attempt has written
    :param is_cleared: whether a person lets the job buy again what the service has forgotten
    """

    client: SiliconFlowClient
    files: JobDirectory
    requests: RequestFiles
    requests_count: int
    batches: JobBatches
    landed: EarlierResults
    is_cleared: bool

    def fill(self, answers: ResultStore, rounds: Sequence[Round]) -> Outcome:
        """Give each request a row.

        :raises JobFilesError: when the service has forgotten an answer that was not written down
        """
        fetched = [self._fetch_round(answers, rounds, number) for number in range(len(rounds))]
        failures = {each.round_.number: each.failures for each in fetched}
        is_any_lost = any(each.is_any_lost for each in fetched)
        is_any_forgotten = any(self._is_forgotten(each, part) for each in rounds for part in each.parts)
        if is_any_forgotten or is_any_lost or any(failures.values()):
            for row in self.landed.rows(self.files):
                answers.add_earlier_row(row)
        # What the newest round knows of a request goes before what an older one does not.
        for each in reversed(rounds):
            for part in each.parts:
                if part.sha256 in failures[each.number]:
                    self._assume_not_fetched(answers, each, part)
                else:
                    self._assume_rest(answers, each, part, is_newest=each is rounds[-1])
        return Outcome([error for each in failures.values() for error in each.values()], is_any_lost)

    def _fetch_round(self, answers: ResultStore, rounds: Sequence[Round], number: int) -> RoundRetrieval:
        retrieval = RoundRetrieval(
            self.client, self.files, self.requests, self.batches, answers, rounds[number], rounds[number + 1 :],
            self.requests_count, self._landed_of_part, Tolerance(GIVE_UP_AFTER, self.is_cleared, True, _REMEDY),
        )  # fmt: skip
        retrieval.run()
        return retrieval

    @cached_property
    def _landed_positions(self) -> bytearray:
        return self.landed.positions(self.files, self.requests_count)

    def _landed_of_part(self, round_: Round, part: Part) -> bytearray | None:
        """Return which requests have landed, where an earlier attempt may have fetched this part for that."""
        return self._landed_positions if self.landed.has(round_, part) else None

    def _assume_not_fetched(self, answers: ResultStore, round_: Round, part: Part) -> None:
        """Say of the requests of a part that its answers could not be fetched, unless they have landed before."""
        batch, landed = self.batches.batch_of_part(round_, part), self._landed_of_part(round_, part)
        for custom_id, index in indexes_by_id(self.requests, round_, part).items():
            if landed is None or not landed[index]:
                answers.set_outcome(index, row_without_answer(custom_id, *_NOT_FETCHED, round_, batch))

    def _assume_rest(self, answers: ResultStore, round_: Round, part: Part, *, is_newest: bool) -> None:
        """Say what became of the requests of a part that has no batch which is over."""
        batch = self.batches.batch_of_part(round_, part)
        if batch is not None and batch.is_terminal:
            return
        is_lost = batch is None and (not is_newest or self._is_forgotten(round_, part))
        for custom_id, index in indexes_by_id(self.requests, round_, part).items():
            if batch is None and answers.has_row(index):
                continue
            if is_lost and not self.is_cleared:
                raise JobFilesError(
                    f"the service has forgotten a batch of round {round_.number}, after 30 days, before its answers "
                    f"were written ({custom_id!r} and others): clear the task to submit what has no answer"
                )
            status, error = _LOST if is_lost else _NOT_OVER if batch is not None else _NOT_SENT
            answers.set_outcome(index, row_without_answer(custom_id, status, error, round_, batch))

    def _is_forgotten(self, round_: Round, part: Part) -> bool:
        """Whether results have landed for a part of which the service knows nothing any more."""
        return self.batches.batch_of_part(round_, part) is None and self.landed.has(round_, part)


_NOT_OVER = "unfinished", AnswerError("unfinished", "its batch was not over when the job's time was")
_NOT_FETCHED = "unfinished", AnswerError("not_fetched", "the results of its batch could not be fetched yet")
_NOT_SENT = "unfinished", AnswerError("not_sent", "it was not sent before the job's time was over")
_LOST = "missing", AnswerError("forgotten", "the service keeps answers for 30 days, and this one was not written")
_REMEDY = (
    "nothing is submitted again, and a retry asks once more. If it stays, clear the task to submit what has no answer"
)
