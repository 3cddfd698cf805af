"""Fetch the answers of one round's batches, part by part. A part that fails does not delay the others."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
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
from siliconflow_provider.wording import counted

DOWNLOADS_AT_ONCE = 3
# The characters of a batch's errors in each row: fewer than an error of a row may have.
MOST_BATCH_ERRORS = 1_000

log = logging.getLogger(__name__)


class PartBatches(Protocol):
    """The batches of a round's parts; see `JobBatches`."""

    def batch_of_part(self, round_: Round, part: Part) -> Batch | None: ...
    def refresh(self, round_: Round, part: Part) -> Batch: ...


@dataclass(frozen=True)
class Tolerance:
    """Say how to treat incomplete and lost results.

    :param give_up_after: how long failed calls are retried
    :param accepts_incomplete: True if incomplete results are accepted at the end; otherwise they are an error
    :param accepts_lost: True if requests whose results are lost get the status `missing`; otherwise that is an error
    :param remedy: the end of the error's message
    """

    give_up_after: timedelta
    accepts_incomplete: bool
    accepts_lost: bool
    remedy: str


@dataclass(frozen=True)
class MayRetry:
    """Say which problems of a part may still be retried.

    :param incomplete: results that do not match the batch's counts or requests
    :param errors: failed calls, and files that the service does not find
    """

    incomplete: bool
    errors: bool


@dataclass
class RoundRetrieval:
    """Fetch the answers of a round's batches that are over.

    :param later: the rounds after this one
    :param published: returns, by position, 1 for each published request; None if this part was never published
    :param failures: the errors of the parts that could not be fetched, by the SHA-256 of the part
    :param is_any_lost: True if the service has lost the result of a request
    """

    client: SiliconFlowClient
    files: JobDirectory
    requests: RequestFiles
    batches: PartBatches
    answers: ResultStore
    round_: Round
    later: Sequence[Round]
    requests_count: int
    published: Callable[[Round, Part], bytearray | None]
    tolerance: Tolerance
    failures: dict[str, SiliconFlowError] = field(default_factory=dict)
    is_any_lost: bool = False

    def run(self) -> None:
        """Fetch all parts; retry those that fail, after the others, as long as a retry may help."""
        pending = [part for part in self.round_.parts if self._is_over(part)]
        started = clock.now()
        for pause in retry_pauses(self.tolerance.give_up_after, FIRST_PAUSE):
            may_retry = MayRetry(incomplete=clock.now() - started < DELIVERY_TIME, errors=pause is not None)
            failures = {part.sha256: self._try_part(part, done, may_retry) for part, done in self._downloads(pending)}
            pending = [part for part in pending if part.sha256 not in self.failures and failures[part.sha256]]
            if not pending or pause is None:
                break
            log.warning(
                "could not fetch the results of %s of round %d, will keep trying: %s",
                counted(len(pending), "batch"), self.round_.number, failures[pending[0].sha256],
            )  # fmt: skip
            clock.sleep(pause)

    @cached_property
    def _sent_later(self) -> bytearray:
        sent = bytearray(self.requests_count)
        for later in self.later:
            for index in later.indexes:
                sent[index] = True
        return sent

    def _needs_no_result(self, part: Part, indexes: Sequence[int]) -> bool:
        """Return True if each request is published or was resent by a later round: a lost result is no error then."""
        published = self.published(self.round_, part)
        return all(self._sent_later[index] or (published is not None and published[index]) for index in indexes)

    def _is_over(self, part: Part) -> bool:
        batch = self.batches.batch_of_part(self.round_, part)
        return batch is not None and batch.is_terminal

    def _downloads(self, parts: Sequence[Part]) -> Iterator[tuple[Part, Future[ResultFiles]]]:
        """Yield each part with its download. While one part is added, the next ones are downloaded."""
        running: deque[tuple[Part, Future[ResultFiles]]] = deque()
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            for number, part in enumerate(parts):
                # The caller is done with the files of the part that had this slot.
                running.append((part, pool.submit(self._download, part, number % (DOWNLOADS_AT_ONCE + 1))))
                if len(running) > DOWNLOADS_AT_ONCE:
                    yield running.popleft()
            while running:
                yield running.popleft()

    def _download(self, part: Part, slot: int) -> ResultFiles:
        batch = self.batches.refresh(self.round_, part)
        return download_result_files(self.client, batch, lambda name: self.files.create(f"fetched-{slot}-{name}"))

    def _try_part(self, part: Part, download: Future[ResultFiles], may_retry: MayRetry) -> SiliconFlowError | None:
        """Add a part. Return the error if a retry may help; None if the part is added or has failed for good."""
        try:
            with closing(download.result()) as results:
                return self._add_or_retry(part, results, may_retry)
        except SiliconFlowError as error:
            return self._failed(part, error, may_retry=may_retry.errors and is_retryable(error))

    def _add_or_retry(self, part: Part, results: ResultFiles, may_retry: MayRetry) -> SiliconFlowError | None:
        """Add the results of a part; return the error instead if a retry may bring better ones."""
        indexes = indexes_by_id(self.requests, self.round_, part)
        problem = delivery_problem(results.batch, results.contents, indexes)
        absent = [index for custom_id, index in indexes.items() if custom_id not in results.contents.whole_ids]
        needs_none = self._needs_no_result(part, absent)
        if results.gone is not None:
            if may_retry.errors and not needs_none:
                return results.gone
            if not (needs_none or self.tolerance.accepts_lost):
                lost = results.gone.reworded(f"{results.gone.message}: {self.tolerance.remedy}")
                return self._failed(part, lost, may_retry=False)
            log.warning("the service has lost results of batch %s: %s", results.batch.id, results.gone)
            self._add(results, indexes, "the service does not find the results of the batch any more")
            return None
        if problem is None:
            self._add(results, indexes, None)
            return None
        if may_retry.incomplete and not needs_none:
            return UnreadableAnswerError(problem.message)
        if problem.is_error and not (needs_none or self.tolerance.accepts_incomplete):
            return self._failed(
                part, UnreadableAnswerError(f"{problem.message}: {self.tolerance.remedy}"), may_retry=False
            )
        log.warning("results of batch %s are incomplete: %s", results.batch.id, problem.message)
        self._add(results, indexes, problem.message if problem.is_lost else None)
        return None

    def _failed(self, part: Part, error: SiliconFlowError, *, may_retry: bool) -> SiliconFlowError:
        if not may_retry:
            self.failures[part.sha256] = error
        return error

    def _add(self, results: ResultFiles, indexes: dict[str, int], lost: str | None) -> None:
        """Add the lines of the result files. Set the outcome of each request that no line mentions.

        :param lost: the reason if results are lost; otherwise the batch's status decides
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
    """Return the position in the job of each request of a part, by custom id."""
    return dict(zip(ids_of_part(requests.path(round_), part), round_.indexes_of(part), strict=True))


def row_without_answer(
    custom_id: str, status: str, error: AnswerError, round_: Round, batch: Batch | None
) -> ResultRow:
    """Return the row of a request that no result file mentions."""
    batch_id = None if batch is None else batch.id
    return ResultRow(custom_id=custom_id, status=status, error=error, batch_id=batch_id, round=round_.number)


def _without_line(batch: Batch) -> tuple[str, AnswerError]:
    """Return status and error of a request that no result file of its batch mentions."""
    if batch.final_status == "completed":
        return "missing", AnswerError("missing", "the batch completed, but neither of its files has this request")
    status = batch.final_status or "unfinished"
    errors = "; ".join(first_errors(batch.errors, MOST_BATCH_ERRORS))
    return status, AnswerError(f"batch_{status}", errors or f"the batch {status} before this request was run")
