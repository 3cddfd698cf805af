"""The answers of one round's batches, fetched part by part: a part that fails does not hold the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Protocol

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError, UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import is_retryable, retry_pauses
from siliconflow_provider.api.service_texts import first_errors
from siliconflow_provider.inputs import Part, ids_of_part
from siliconflow_provider.job_directory import JobDirectory
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.outputs import (
    DELIVERY_TIME,
    FIRST_PAUSE,
    RESULTS_LOST,
    AnswerError,
    ResultFiles,
    ResultRow,
    ResultStore,
    delivery_problem,
    download_result_files,
)

# In the row of each request of a batch: together with what says how much was cut, less than a row's error may have.
MOST_BATCH_ERRORS = 1_000

log = logging.getLogger(__name__)


class PartBatches(Protocol):
    """The batches of a round's parts, as `JobBatches` has them."""

    def batch_of_part(self, round_: Round, part: Part) -> Batch | None: ...
    def refresh(self, round_: Round, part: Part) -> Batch: ...


@dataclass(frozen=True)
class Tolerance:
    """How results are treated that are incomplete or lost.

    :param give_up_after: how long calls that fail are repeated
    :param accepts_incomplete: whether incomplete results are taken in the end; else they are an error
    :param accepts_lost: whether requests get a row of status `missing` when their results are gone; else
        that is an error
    :param remedy: the end of that error's message
    """

    give_up_after: timedelta
    accepts_incomplete: bool
    accepts_lost: bool
    remedy: str


@dataclass(frozen=True)
class Patience:
    """What a try may still leave to a later one.

    :param with_delivery: results that are not what the batch says
    :param with_errors: calls that fail, and files that are not found
    """

    with_delivery: bool
    with_errors: bool


@dataclass
class RoundRetrieval:
    """Fetches what the batches of a round that are over have answered.

    :param later: the rounds after it
    :param landed: gives which requests, by position, have a row of an earlier attempt that had fetched this part
    :param failures: why parts could not be fetched, by the SHA-256 of the part
    :param is_any_lost: whether requests have no row because of a result that is lost
    """

    client: SiliconFlowClient
    files: JobDirectory
    requests: RequestFiles
    batches: PartBatches
    answers: ResultStore
    round_: Round
    later: Sequence[Round]
    requests_count: int
    landed: Callable[[Round, Part], bytearray | None]
    tolerance: Tolerance
    failures: dict[str, SiliconFlowError] = field(default_factory=dict)
    is_any_lost: bool = False

    def run(self) -> None:
        """Fetch all parts; those that fail again, after the others, as long as they may heal."""
        pending = [each for each in self.round_.parts if self._is_over(each)]
        started = clock.now()
        for pause in retry_pauses(self.tolerance.give_up_after, FIRST_PAUSE):
            patience = Patience(clock.now() - started < DELIVERY_TIME, pause is not None)
            failures = {each.sha256: self._try_part(each, patience) for each in pending}
            pending = [each for each in pending if each.sha256 not in self.failures and failures[each.sha256]]
            if not pending or pause is None:
                break
            log.warning(
                "could not fetch the results of %d batches of round %d, will keep trying: %s",
                len(pending), self.round_.number, failures[pending[0].sha256],
            )  # fmt: skip
            clock.sleep(pause)

    @cached_property
    def _sent_later(self) -> bytearray:
        sent = bytearray(self.requests_count)
        for later in self.later:
            for index in later.indexes:
                sent[index] = True
        return sent

    def _is_settled(self, part: Part, indexes: Sequence[int]) -> bool:
        """Whether requests have landed, or are sent by a later round: a result of theirs that is lost is no error."""
        landed = self.landed(self.round_, part)
        return all(self._sent_later[index] or (landed is not None and landed[index]) for index in indexes)

    def _is_over(self, part: Part) -> bool:
        batch = self.batches.batch_of_part(self.round_, part)
        return batch is not None and batch.is_terminal

    def _try_part(self, part: Part, patience: Patience) -> SiliconFlowError | None:
        """Fetch a part; return why that is to be tried again, or None: it is fetched, or has failed for good."""
        try:
            batch = self.batches.refresh(self.round_, part)
            with download_result_files(self.client, batch, self.files.create) as results:
                return self._take_or_wait(part, results, patience)
        except SiliconFlowError as error:
            return self._failed(part, error, may_wait=patience.with_errors and is_retryable(error))

    def _take_or_wait(self, part: Part, results: ResultFiles, patience: Patience) -> SiliconFlowError | None:
        indexes = indexes_by_id(self.requests, self.round_, part)
        problem = delivery_problem(results.batch, results.contents, indexes)
        absent = [index for custom_id, index in indexes.items() if custom_id not in results.contents.ids]
        is_settled = self._is_settled(part, absent)
        if results.gone is not None:
            if patience.with_errors and not is_settled:
                return results.gone
            if not (is_settled or self.tolerance.accepts_lost):
                lost = results.gone.reworded(f"{results.gone.message}: {self.tolerance.remedy}")
                return self._failed(part, lost, may_wait=False)
            log.warning("results of batch %s are lost: %s", results.batch.id, results.gone)
            self._take(results, indexes, "the service does not find the results of the batch any more")
            return None
        if problem is None:
            self._take(results, indexes, None)
            return None
        if patience.with_delivery and not is_settled:
            return UnreadableAnswerError(problem.message)
        if problem.is_error and not (is_settled or self.tolerance.accepts_incomplete):
            return self._failed(
                part, UnreadableAnswerError(f"{problem.message}: {self.tolerance.remedy}"), may_wait=False
            )
        log.warning("results of batch %s are not complete: %s", results.batch.id, problem.message)
        self._take(results, indexes, problem.message if problem.is_error else None)
        return None

    def _failed(self, part: Part, error: SiliconFlowError, *, may_wait: bool) -> SiliconFlowError:
        if not may_wait:
            self.failures[part.sha256] = error
        return error

    def _take(self, results: ResultFiles, indexes: dict[str, int], lost: str | None) -> None:
        """Take in what the files have; what they do not mention is lost, or what the batch's end says.

        :param lost: why results are missing, when they are
        """
        batch = results.batch
        self.is_any_lost |= lost is not None
        self.answers.begin_batch()
        for name, blocks in results.blocks():
            self.answers.add_file(blocks, indexes, batch.id, self.round_.number, name)
        status, error = ("missing", AnswerError(RESULTS_LOST, lost)) if lost is not None else _without_line(batch)
        for custom_id, index in indexes.items():
            if not self.answers.is_mentioned(index):
                self.answers.set_outcome(index, row_without_answer(custom_id, status, error, self.round_, batch))


def indexes_by_id(requests: RequestFiles, round_: Round, part: Part) -> dict[str, int]:
    """Return the job's position of each request of a part, by its custom id."""
    return dict(zip(ids_of_part(requests.path(round_), part), round_.indexes_of(part), strict=True))


def row_without_answer(
    custom_id: str, status: str, error: AnswerError, round_: Round, batch: Batch | None
) -> ResultRow:
    """Return the row of a request that no result file mentions."""
    batch_id = None if batch is None else batch.id
    return ResultRow(custom_id=custom_id, status=status, error=error, batch_id=batch_id, round=round_.number)


def _without_line(batch: Batch) -> tuple[str, AnswerError]:
    """Return what became of a request that none of its batch's files mentions."""
    if batch.final_status == "completed":
        return "missing", AnswerError("missing", "the batch completed, and neither of its files has this request")
    status = batch.final_status or "unfinished"
    said = "; ".join(first_errors(batch.errors, MOST_BATCH_ERRORS)) or f"the batch {status} before this request was run"
    return status, AnswerError(f"batch_{status}", said)
