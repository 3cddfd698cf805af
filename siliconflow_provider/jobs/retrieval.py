"""Fetch the answers of a job's batches, and set the status of each request without an answer."""

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
    """The outcome of fetching a job's answers.

    :param failures: the errors of the parts that could not be fetched
    :param is_any_lost: True if the service has lost the answer of a request
    """

    failures: list[SiliconFlowError]
    is_any_lost: bool


@dataclass(frozen=True)
class Retrieval:
    """Fetch the answers of all batches of a job that are over.

    :param requests_count: the number of the job's requests
    :param published: the results of an earlier attempt
    :param is_cleared: True if a person allows the job to resubmit requests whose answers the service has deleted
    """

    client: SiliconFlowClient
    files: JobDirectory
    requests: RequestFiles
    requests_count: int
    batches: JobBatches
    published: EarlierResults
    is_cleared: bool

    def fill(self, answers: ResultStore, rounds: Sequence[Round]) -> Outcome:
        """Give each request a row.

        :raises JobFilesError: if the service has deleted an answer that is not published
        """
        retrievals = [self._fetch_round(answers, rounds, number) for number in range(len(rounds))]
        failures = {retrieval.round_.number: retrieval.failures for retrieval in retrievals}
        is_any_lost = any(retrieval.is_any_lost for retrieval in retrievals)
        is_any_deleted = any(self._is_deleted(round_, part) for round_ in rounds for part in round_.parts)
        if is_any_deleted or is_any_lost or any(failures.values()):
            for row in self.published.rows(self.files):
                answers.add_earlier_row(row)
        # The newest round comes first: an older one must not overwrite its outcomes.
        for round_ in reversed(rounds):
            for part in round_.parts:
                if part.sha256 in failures[round_.number]:
                    self._set_not_fetched(answers, round_, part)
                else:
                    self._set_without_batch(answers, round_, part, is_newest=round_ is rounds[-1])
        return Outcome([error for errors in failures.values() for error in errors.values()], is_any_lost)

    def _fetch_round(self, answers: ResultStore, rounds: Sequence[Round], number: int) -> RoundRetrieval:
        retrieval = RoundRetrieval(
            self.client, self.files, self.requests, self.batches, answers, rounds[number], rounds[number + 1 :],
            self.requests_count, self._published_of_part, Tolerance(GIVE_UP_AFTER, self.is_cleared, True, _REMEDY),
        )  # fmt: skip
        retrieval.run()
        return retrieval

    @cached_property
    def _published_positions(self) -> bytearray:
        return self.published.positions(self.files, self.requests_count)

    def _published_of_part(self, round_: Round, part: Part) -> bytearray | None:
        """Return, by position, 1 for each published request; None if no earlier attempt published this part."""
        return self._published_positions if self.published.has(round_, part) else None

    def _set_not_fetched(self, answers: ResultStore, round_: Round, part: Part) -> None:
        """Set the outcome of a part's requests if its results could not be fetched, except published ones."""
        batch, published = self.batches.batch_of_part(round_, part), self._published_of_part(round_, part)
        for custom_id, index in indexes_by_id(self.requests, round_, part).items():
            if published is None or not published[index]:
                answers.set_outcome(index, row_without_answer(custom_id, *_NOT_FETCHED, round_, batch))

    def _set_without_batch(self, answers: ResultStore, round_: Round, part: Part, *, is_newest: bool) -> None:
        """Set the outcome of a part's requests if it has no batch that is over."""
        batch = self.batches.batch_of_part(round_, part)
        if batch is not None and batch.is_terminal:
            return
        is_lost = batch is None and (not is_newest or self._is_deleted(round_, part))
        for custom_id, index in indexes_by_id(self.requests, round_, part).items():
            if batch is None and answers.has_row(index):
                continue
            if is_lost and not self.is_cleared:
                raise JobFilesError(
                    f"the service has deleted a batch of round {round_.number} before its answers were published "
                    f"({custom_id!r} and others); it keeps batches for 30 days",
                    "Clear the task to submit the requests that have no answer",
                )
            status, error = _LOST if is_lost else _NOT_OVER if batch is not None else _NOT_SENT
            answers.set_outcome(index, row_without_answer(custom_id, status, error, round_, batch))

    def _is_deleted(self, round_: Round, part: Part) -> bool:
        """Return True if the service has deleted the batch of a part whose results are published."""
        return self.batches.batch_of_part(round_, part) is None and self.published.has(round_, part)


_NOT_OVER = "unfinished", AnswerError("unfinished", "its batch was still running at the timeout")
_NOT_FETCHED = "unfinished", AnswerError("not_fetched", "the results of its batch could not be fetched yet")
_NOT_SENT = "unfinished", AnswerError("not_sent", "it was not sent before the timeout")
_LOST = (
    "missing",
    AnswerError("forgotten", "the service deleted this answer before it was published (it keeps answers for 30 days)"),
)
_REMEDY = (
    "nothing is resubmitted, and a retry downloads again. If the error persists, clear the task to submit the requests "
    "that have no answer"
)
