"""Collect the results of a job from its batches, and publish them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

from siliconflow_provider.api import clock
from siliconflow_provider.api.durations import parse_completion_window
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.batches import RETENTION
from siliconflow_provider.inputs import Part, RejectedItem
from siliconflow_provider.job_directory import DUPLICATES, KEPT, REJECTED
from siliconflow_provider.jobs.job import Duplicate, Round
from siliconflow_provider.jobs.open_job import OpenJob
from siliconflow_provider.jobs.publication import EarlierResults, publish_results, read_lines, read_rows
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.retrieval import Retrieval
from siliconflow_provider.jobs.run_states import Settings
from siliconflow_provider.outputs import REJECTED_STATUS, AnswerError, ResultRow, ResultStore, RowErrors
from siliconflow_provider.report import ReportContext
from siliconflow_provider.waiting import GRACE_AFTER_EXPIRY
from siliconflow_provider.wording import counted

# The code of an item that cannot be sent.
INVALID_ITEM = "invalid_item"

log = logging.getLogger(__name__)


class JobResults:
    """The results of one job in one attempt.

    :ivar publications: the manifests that this attempt has published, each with the one that it replaced
    """

    def __init__(self, opened: OpenJob, settings: Settings) -> None:
        self._opened = opened
        self._settings = settings
        self._client = client = opened.client
        self._files = opened.files
        self._job = opened.job
        self._context = ReportContext("", client.without_secrets, settings.min_success_rate, now=client.now)
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
        return self._opened.batches.batch_of_part(round_, part) is None and self.published.has(round_, part)

    def collect(self) -> ResultStore:
        """Fetch the results of all batches that are over.

        :raises SiliconFlowError: if the results of a batch could not be fetched; those of the others are published
        """
        self.close()
        self._rows, self._full_errors = self._files.create("collected"), self._files.create("collected-errors")
        errors = RowErrors(self._full_errors, self._client.without_secrets)
        price = self._settings.costs.price_of(self._job.model or None)
        results = ResultStore(
            self._job.requests, self._rows, self._settings.validate, errors, price, self._job.has_reused_rows
        )
        self._add_inherited(results)
        self._add_rejected(results)
        outcome = Retrieval(
            self._client, self._files, self._opened.requests, self._job.requests, self._opened.batches, self.published,
            is_cleared=self._opened.limits.is_cleared,
        ).fill(results, self._opened.rounds)  # fmt: skip
        results.copy_rows(self._duplicates())
        if results.duplicates or results.unknown_requests:
            log.warning(
                "ignored %s and %s with unknown custom_ids",
                counted(results.duplicates, "duplicate line"), counted(results.unknown_requests, "line"),
            )  # fmt: skip
        self.collected, self.is_any_lost = results, outcome.is_any_lost
        if outcome.failures:
            if results.counts().keys() - {"unfinished"}:
                self.publish(complete=False)
                log.warning(
                    "some results could not be fetched; the others are in %s",
                    self._files.url(self._settings.output_format.results),
                )
            self.collected = None
            raise outcome.failures[0]
        return results

    def publish(self, *, complete: bool, notes: Sequence[str] = ()) -> dict[str, Any]:
        """Write one row for each request, the report and the manifest, publish them, and return the manifest.

        Collect the results first if needed.

        :param complete: True if no batch of the job runs any more
        :param notes: sentences for the report on why the job ends
        """
        results = self.collected or self.collect()
        # Collecting has refreshed each batch: an event or a list does not have all of its errors.
        batches = self._opened.batches_of_parts()
        # The requests are not needed any more.
        self._opened.requests.release()
        manifest = publish_results(
            self._files, self._job, results, batches, self.published, complete=complete,
            rounds=self._opened.rounds, output_format=self._settings.output_format,
            context=replace(self._context, notes=notes),
        )  # fmt: skip
        self.publications.append((self.published.manifest, manifest))
        self.load_published()
        return manifest

    def publish_before_deletion(self) -> None:
        """Publish the answers if the service may delete them before a further round is over.

        Publish them also if results are already lost: otherwise the next attempt tries to fetch these for an hour.
        """
        window = parse_completion_window(self._opened.submission.completion_window)
        over_at = clock.now() + window + GRACE_AFTER_EXPIRY
        is_any_old = any(created_at + RETENTION <= over_at for created_at in self._opened.batches.created_at)
        if self.is_any_lost or is_any_old:
            self.publish(complete=False)

    def publish_before_failure(self) -> None:
        """Publish the answers of batches that are over, since a task that fails may not run again."""
        if any(batch.is_terminal for _, _, batch in self._opened.batches_of_parts()):
            try:
                self.publish(complete=False)
            except SiliconFlowError as error:
                log.warning("could not publish the answers so far: %s", error)

    def _add_inherited(self, results: ResultStore) -> None:
        """Add the answers of earlier jobs.

        :raises RequestsLostError: if some are missing
        """
        name = self._opened.file_name(KEPT)
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
        name = self._opened.file_name(DUPLICATES)
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
        name, missing = self._opened.file_name(REJECTED), len(self._job.rejected)
        for item in read_lines(self._files, name, RejectedItem) if missing else ():
            error = AnswerError(INVALID_ITEM, item.reason)
            row = ResultRow(index=item.index, custom_id=item.custom_id, status=REJECTED_STATUS, error=error)
            results.add_earlier_row(row, is_billed=False)
            missing -= 1
        if missing:
            raise RequestsLostError(
                f"{self._files.url(name)} is missing or truncated; restore it: it has the items that cannot be sent"
            )
