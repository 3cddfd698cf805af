"""The results of a job: collected from its batches, and published."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import IO, Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import KEPT, RESULTS, JobDirectory, job_file_name
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.publication import BatchOfPart, EarlierResults, publish_results, read_rows
from siliconflow_provider.jobs.request_files import RequestFiles, RequestsLostError
from siliconflow_provider.jobs.retrieval import Retrieval
from siliconflow_provider.outputs import ResultStore, RowErrors, Validate

log = logging.getLogger(__name__)


class JobResults:
    """The results of one job in one attempt.

    :param requests: of the job
    :param validate: may turn a row that succeeded into an invalid one
    """

    def __init__(
        self,
        client: SiliconFlowClient,
        files: JobDirectory,
        job: Job,
        requests: RequestFiles,
        batches: JobBatches,
        validate: Validate | None,
    ) -> None:
        self._client = client
        self._files = files
        self._job = job
        self._requests = requests
        self._batches = batches
        self._validate = validate
        self._rows: IO[bytes] | None = None
        self._full_errors: IO[bytes] | None = None
        self.published = EarlierResults()
        self.collected: ResultStore | None = None
        self.is_any_lost = False

    def load_published(self) -> None:
        """Read the results that are published of this job."""
        self.published = EarlierResults.read(self._files, self._job)

    def close(self) -> None:
        """Close the local files, and remove them to make room."""
        for name, file in (("collected", self._rows), ("collected-errors", self._full_errors)):
            if file is not None:
                file.close()
                self._files.discard(name)

    def is_forgotten(self, round_: Round, part: Part) -> bool:
        """Whether the service knows no batch of a part any more whose results are published."""
        return self._batches.batch_of_part(round_, part) is None and self.published.has(round_, part)

    def collect(self, rounds: Sequence[Round], *, is_cleared: bool) -> ResultStore:
        """Fetch the results of all batches that are over.

        :param is_cleared: whether a person lets the job buy again what the service has forgotten
        :raises SiliconFlowError: when those of some batches could not be fetched; the others' are published by then
        """
        self.close()
        self._rows, self._full_errors = self._files.create("collected"), self._files.create("collected-errors")
        errors = RowErrors(self._full_errors, self._client.without_secrets)
        results = ResultStore(self._job.requests, self._rows, self._validate, errors)
        self._add_kept(results)
        outcome = Retrieval(
            self._client, self._files, self._requests, self._job.requests, self._batches, self.published, is_cleared
        ).fill(results, rounds)
        if results.duplicates or results.unknown_requests:
            log.warning(
                "ignored %d duplicate lines and %d lines with unknown custom_ids",
                results.duplicates, results.unknown_requests,
            )  # fmt: skip
        self.collected, self.is_any_lost = results, outcome.is_any_lost
        if outcome.failures:
            if results.counts().keys() - {"unfinished"}:
                self.publish(rounds, complete=False, is_cleared=is_cleared)
                log.warning("the results that could be fetched are in %s", self._files.url(RESULTS))
            self.collected = None
            raise outcome.failures[0]
        return results

    def publish(self, rounds: Sequence[Round], *, complete: bool, is_cleared: bool) -> dict[str, Any]:
        """Write one row a request and the manifest, publish both, and return the manifest.

        :param complete: whether nothing of the job runs any more
        :param is_cleared: as `collect` takes it, which is called first if nothing has been collected
        """
        results = self.collected or self.collect(rounds, is_cleared=is_cleared)
        # Collecting has asked for each batch: from an event or a list, not all of its errors are known.
        batches = self.batches_of_parts(rounds)
        # The results have all that is needed of the requests by now.
        self._requests.release()
        manifest = publish_results(self._files, self._job, results, batches, self.published, complete=complete)
        self.load_published()
        return manifest

    def batches_of_parts(self, rounds: Sequence[Round]) -> list[BatchOfPart]:
        """Return the batches that the service has, each with its round and part."""
        return [
            (each, part, batch)
            for each in rounds
            for part in each.parts
            if (batch := self._batches.batch_of_part(each, part)) is not None
        ]

    def _add_kept(self, results: ResultStore) -> None:
        """Add the answers that were kept when this job replaced another.

        :raises RequestsLostError: when they are gone
        """
        name = job_file_name(KEPT, self._job.directory)
        kept = 0 if self._job.inherited is None else self._job.inherited.rows
        for row in read_rows(self._files, name) if kept else ():
            results.add_earlier_row(row, is_billed=False)
            kept -= 1
        if kept:
            raise RequestsLostError(
                f"{self._files.url(name)} is missing or truncated; restore it: it has answers that were kept when this "
                "job replaced another one"
            )
