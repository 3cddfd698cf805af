"""Collect the results of a job from its batches, and publish them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.inputs import Part, RejectedItem
from siliconflow_provider.job_directory import DUPLICATES, KEPT, REJECTED, JobDirectory, job_file_name
from siliconflow_provider.jobs.job import Duplicate, Job, Round
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.publication import BatchOfPart, EarlierResults, publish_results, read_lines, read_rows
from siliconflow_provider.jobs.request_files import RequestFiles, RequestsLostError
from siliconflow_provider.jobs.retrieval import Retrieval
from siliconflow_provider.outputs import (
    JSON_LINES,
    REJECTED_STATUS,
    AnswerError,
    OutputFormat,
    Price,
    ResultRow,
    ResultStore,
    RowErrors,
    Validate,
)
from siliconflow_provider.report import ReportContext
from siliconflow_provider.wording import counted

# The code of an item that cannot be sent.
INVALID_ITEM = "invalid_item"

log = logging.getLogger(__name__)


class JobResults:
    """The results of one job in one attempt.

    :param requests: the request files of the job
    :param validate: may change a row from succeeded to invalid
    :param price: None if the job has no prices
    :param output_format: the form in which the results are published
    :ivar publications: the manifests that this attempt has published, each with the one that it replaced
    :param min_success_rate: for the report; see `ReportContext`
    """

    def __init__(
        self,
        client: SiliconFlowClient,
        files: JobDirectory,
        job: Job,
        requests: RequestFiles,
        batches: JobBatches,
        validate: Validate | None,
        price: Price | None = None,
        output_format: OutputFormat = JSON_LINES,
        min_success_rate: float | None = None,
    ) -> None:
        self._client = client
        self._files = files
        self._job = job
        self._requests = requests
        self._batches = batches
        self._validate = validate
        self._price = price
        self._output_format = output_format
        self._context = ReportContext("", client.without_secrets, min_success_rate, now=client.now)
        self._rows: IO[bytes] | None = None
        self._full_errors: IO[bytes] | None = None
        self.published = EarlierResults()
        self.publications: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.collected: ResultStore | None = None
        self.is_any_lost = False

    def load_published(self) -> None:
        """Read the published results of this job."""
        self.published = EarlierResults.read(self._files, self._job)

    def close(self) -> None:
        """Close the local files, and remove them to free disk space."""
        for name, file in (("collected", self._rows), ("collected-errors", self._full_errors)):
            if file is not None:
                file.close()
                self._files.discard(name)

    def is_published_and_deleted(self, round_: Round, part: Part) -> bool:
        """Return True if the service has deleted the batch of a part, and its results are published."""
        return self._batches.batch_of_part(round_, part) is None and self.published.has(round_, part)

    def collect(self, rounds: Sequence[Round], *, is_cleared: bool) -> ResultStore:
        """Fetch the results of all batches that are over.

        :param is_cleared: True if a person allows the job to resubmit requests whose answers the service has deleted
        :raises SiliconFlowError: if the results of a batch could not be fetched; those of the others are published
        """
        self.close()
        self._rows, self._full_errors = self._files.create("collected"), self._files.create("collected-errors")
        errors = RowErrors(self._full_errors, self._client.without_secrets)
        results = ResultStore(
            self._job.requests, self._rows, self._validate, errors, self._price, self._job.has_reused_rows
        )
        self._add_inherited(results)
        self._add_rejected(results)
        outcome = Retrieval(
            self._client, self._files, self._requests, self._job.requests, self._batches, self.published, is_cleared
        ).fill(results, rounds)
        results.copy_rows(self._duplicates())
        if results.duplicates or results.unknown_requests:
            log.warning(
                "ignored %s and %s with unknown custom_ids",
                counted(results.duplicates, "duplicate line"), counted(results.unknown_requests, "line"),
            )  # fmt: skip
        self.collected, self.is_any_lost = results, outcome.is_any_lost
        if outcome.failures:
            if results.counts().keys() - {"unfinished"}:
                self.publish(rounds, complete=False, is_cleared=is_cleared)
                log.warning(
                    "some results could not be fetched; the others are in %s",
                    self._files.url(self._output_format.results),
                )
            self.collected = None
            raise outcome.failures[0]
        return results

    def publish(
        self, rounds: Sequence[Round], *, complete: bool, is_cleared: bool, notes: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Write one row for each request, the report and the manifest, publish them, and return the manifest.

        Collect the results first if needed.

        :param complete: True if no batch of the job runs any more
        :param is_cleared: see `collect`
        :param notes: sentences for the report on why the job ends
        """
        results = self.collected or self.collect(rounds, is_cleared=is_cleared)
        # Collecting has refreshed each batch: an event or a list does not have all of its errors.
        batches = self.batches_of_parts(rounds)
        # The requests are not needed any more.
        self._requests.release()
        manifest = publish_results(
            self._files, self._job, results, batches, self.published, complete=complete, rounds=rounds,
            output_format=self._output_format, context=replace(self._context, notes=notes),
        )  # fmt: skip
        self.publications.append((self.published.manifest, manifest))
        self.load_published()
        return manifest

    def batches_of_parts(self, rounds: Sequence[Round]) -> list[BatchOfPart]:
        """Return the job's batches at the service, each with its round and part."""
        return [
            (round_, part, batch)
            for round_ in rounds
            for part in round_.parts
            if (batch := self._batches.batch_of_part(round_, part)) is not None
        ]

    def _add_inherited(self, results: ResultStore) -> None:
        """Add the answers of earlier jobs.

        :raises RequestsLostError: if some are missing
        """
        name = job_file_name(KEPT, self._job.directory)
        missing = 0 if self._job.inherited is None else self._job.inherited.rows
        for row in read_rows(self._files, name) if missing else ():
            results.add_earlier_row(row, is_billed=False)
            missing -= 1
        if missing:
            raise RequestsLostError(
                f"{self._files.url(name)} is missing or truncated; restore it: it has the answers that this job reuses "
                "from earlier jobs"
            )

    def _duplicates(self) -> Iterator[tuple[int, int, str]]:
        """Yield position, position of the equal request that is sent, and custom_id of each duplicate request.

        :raises RequestsLostError: if some are missing
        """
        name = job_file_name(DUPLICATES, self._job.directory)
        missing = self._job.duplicates
        for duplicate in read_lines(self._files, name, Duplicate) if missing else ():
            yield duplicate.index, duplicate.sent, duplicate.custom_id
            missing -= 1
        if missing:
            raise RequestsLostError(
                f"{self._files.url(name)} is missing or truncated; restore it: it names the requests that are equal to "
                "others"
            )

    def _add_rejected(self, results: ResultStore) -> None:
        """Add the rows of the items that are never sent.

        :raises RequestsLostError: if some are missing
        """
        name, missing = job_file_name(REJECTED, self._job.directory), len(self._job.rejected)
        for item in read_lines(self._files, name, RejectedItem) if missing else ():
            error = AnswerError(INVALID_ITEM, item.reason)
            row = ResultRow(index=item.index, custom_id=item.custom_id, status=REJECTED_STATUS, error=error)
            results.add_earlier_row(row, is_billed=False)
            missing -= 1
        if missing:
            raise RequestsLostError(
                f"{self._files.url(name)} is missing or truncated; restore it: it has the items that cannot be sent"
            )
