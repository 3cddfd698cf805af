"""Download the results of one batch, whoever submitted it, and publish them like those of a job of one part."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import InvalidRequestError, ServiceError, SiliconFlowError, UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import is_retryable, retry_pauses
from siliconflow_provider.batches import AIRFLOW_KEY
from siliconflow_provider.inputs import Part, PartWriter
from siliconflow_provider.job_directory import MANIFEST, REQUESTS, JobDirectory, result_rows_name
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.publication import EarlierResults, publish_results, read_rows
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.jobs.round_retrieval import RoundRetrieval, Tolerance
from siliconflow_provider.jsonl import read_lines
from siliconflow_provider.outputs import (
    DELIVERY_TIME,
    FIRST_PAUSE,
    OutputDirectory,
    ResultContents,
    ResultRow,
    ResultStore,
    RowErrors,
    custom_id_of,
    delivery_problem,
    download_result_files,
)
from siliconflow_provider.report import ReportContext
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)

# Other refusals (4xx) say that the service does not give the file; these may be gone in a minute.
_TEMPORARY = (401, 408, 425, 429)
REMEDY = (
    "nothing was written, and a retry downloads again. If the error persists, clear the task to write the results "
    "that the service still has"
)


def download_results(
    client: SiliconFlowClient,
    batch: Batch,
    files: JobDirectory,
    task: str,
    *,
    is_cleared: bool = False,
    remedy: str = REMEDY,
) -> dict[str, Any]:
    """Publish one row for each request of a batch, and the manifest; return the manifest.

    The requests and their order are those of the batch's input file. If the service does not give that file any more,
    they are the requests that the published rows, the output and the error file mention. A published row of this batch
    stays if the service has lost its result. Published results of another batch are kept.

    :param batch: that is over
    :param task: the task instance that owns the files, or another name for who writes them
    :param is_cleared: True if a person started this attempt: then incomplete results are written too
    :param remedy: what to do if results are incomplete, for errors
    :raises OutputConflictError: if the task did not write the existing files; nothing is downloaded then
    :raises SiliconFlowError: if files are incomplete, or cannot be downloaded, for ten minutes
    """
    output = OutputDirectory(files, task)
    is_ours = _published_batch(files) == batch.id
    output.check_claim(is_ours=is_ours)
    tolerance = Tolerance(DELIVERY_TIME, is_cleared, is_cleared, remedy)
    published = _PublishedRows.read(files, batch.id)
    custom_ids = _ids_of_requests(client, batch, files, tolerance, published)
    job = _job_of(batch, custom_ids, files, task)
    (part,) = job.first_round.parts
    with files.create("collected") as rows, files.create("collected-errors") as full_errors:
        results = ResultStore(job.requests, rows, errors=RowErrors(full_errors, client.without_secrets))
        known = _KnownBatch(client, batch)
        retrieval = RoundRetrieval(
            client,
            files,
            RequestFiles(files),
            known,
            results,
            job.first_round,
            later=(),
            requests_count=job.requests,
            published=lambda round_, part: bytearray(published.has_result.get(name, False) for name in custom_ids),
            tolerance=tolerance,
        )
        retrieval.run()
        for error in retrieval.failures.values():
            raise error
        for row in published.rows(custom_ids):
            results.add_earlier_row(row)
        if results.duplicates or results.unknown_requests:
            log.warning(
                "results of batch %s: ignored %s and %s with unknown custom_ids",
                batch.id, counted(results.duplicates, "duplicate line"), counted(results.unknown_requests, "line"),
            )  # fmt: skip
        output.claim(is_ours=is_ours)
        shown = [(job.first_round, part, known.batch)]
        context = ReportContext(without_secrets=client.without_secrets)
        return publish_results(files, job, results, shown, EarlierResults(), complete=True, context=context)


@dataclass(frozen=True)
class _PublishedRows:
    """The published rows of one batch. The manifest beside them may still be another batch's.

    :param has_result: by custom id, True if the row is a result of the service
    """

    files: JobDirectory
    batch_id: str
    has_result: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def read(cls, files: JobDirectory, batch_id: str) -> _PublishedRows:
        """Read which rows there are."""
        rows = cls(files, batch_id)._read()
        return cls(files, batch_id, {row.custom_id: row.status not in ("missing", "unfinished") for row in rows})

    def rows(self, custom_ids: Sequence[str]) -> Iterator[ResultRow]:
        """Yield the rows, each with its position among these ids."""
        indexes = {custom_id: index for index, custom_id in enumerate(custom_ids)}
        for row in self._read() if self.has_result else ():
            row.index = indexes[row.custom_id]
            yield row

    def _read(self) -> Iterator[ResultRow]:
        name = result_rows_name(self.files.read_json(MANIFEST, dict) or {})
        return (row for row in read_rows(self.files, name) if row.batch_id == self.batch_id)


@dataclass
class _KnownBatch:
    """The batch of the only part, as the service showed it last."""

    client: SiliconFlowClient
    batch: Batch

    def batch_of_part(self, round_: Round, part: Part) -> Batch:
        return self.batch

    def refresh(self, round_: Round, part: Part) -> Batch:
        self.batch = self.client.get_batch(self.batch.id)
        return self.batch


def _job_of(batch: Batch, custom_ids: Sequence[str], files: JobDirectory, task: str) -> Job:
    """Return the job that has the requests of a batch as its only part; write its file of requests."""
    with files.create(REQUESTS) as requests:
        writer = PartWriter(requests, most_lines=max(len(custom_ids), 1), most_bytes=sys.maxsize)
        for custom_id in custom_ids:
            writer.write(msgspec.json.encode({"custom_id": custom_id}) + b"\n")
        parts = writer.finish() or [Part(0, 0, 0, 0, hashlib.sha256().hexdigest())]
    created_at = batch.timing.created_at
    return Job(
        key=batch.metadata.get(AIRFLOW_KEY, ""),
        task=task,
        definition={"batch": batch.id},
        requests=len(custom_ids),
        has_rows=False,
        first_round=Round(1, parts, 0, 0 if created_at is None else created_at.int_timestamp),
    )


def _ids_of_requests(
    client: SiliconFlowClient, batch: Batch, files: JobDirectory, tolerance: Tolerance, published: _PublishedRows
) -> list[str]:
    """Return the custom id of each request of a batch, in order."""
    try:
        sent = _sent_ids(client, batch, files, tolerance.remedy)
        reason = "the service does not name it" if batch.input_file_id is None else "it has no request"
    except SiliconFlowError as error:
        if not _is_withheld(error) and not (tolerance.accepts_lost and isinstance(error, UnreadableAnswerError)):
            raise
        sent, reason = [], str(error)
    known = list(dict.fromkeys([*sent, *published.has_result]))
    total = batch.request_counts.total if batch.request_counts is not None else 0
    if sent or (all(published.has_result.values()) and 0 < total <= len(known)):
        return known
    log.warning(
        "could not read the requests of batch %s from its input file (%s): a request gets a row only if the output or "
        "error file mentions it, in the order of these files",
        batch.id, reason,
    )  # fmt: skip
    return list(dict.fromkeys([*known, *_mentioned_ids(client, batch, files, tolerance)]))


def _is_withheld(error: SiliconFlowError) -> bool:
    """Return True if the service refuses to give a file, and a retry would not help."""
    if isinstance(error, InvalidRequestError):
        return True
    status = error.status if isinstance(error, ServiceError) else None
    return status is not None and 400 <= status < 500 and status not in _TEMPORARY


def _sent_ids(client: SiliconFlowClient, batch: Batch, files: JobDirectory, remedy: str) -> list[str]:
    """Return the custom ids in the batch's input file; download it again for ten minutes where that fails."""
    if batch.input_file_id is None:
        return []
    for pause in retry_pauses(DELIVERY_TIME, FIRST_PAUSE):
        try:
            with files.create("input") as content:
                client.download(batch.input_file_id, content)
                content.seek(0)
                return _ids_in(content, batch, remedy)
        except SiliconFlowError as error:
            if pause is None or _is_withheld(error) or not is_retryable(error):
                raise
            log.warning("could not download the input file of batch %s, will keep trying: %s", batch.id, error)
            clock.sleep(pause)
        finally:
            files.discard("input")
    raise AssertionError("the last pause is None")


def _ids_in(content: IO[bytes], batch: Batch, remedy: str) -> list[str]:
    """Return the custom ids in an input file, each once.

    :raises UnreadableAnswerError: when no line has one, though the service has run the batch: it is a proxy's page
    """
    ids: dict[str, None] = {}
    lines = unreadable = 0
    for line in filter(bytes.strip, read_lines(content)):
        lines += 1
        try:
            ids[custom_id_of(line)] = None
        except msgspec.DecodeError:
            unreadable += 1
    if unreadable and not ids and batch.final_status != "failed":
        raise UnreadableAnswerError(f"the input file of batch {batch.id} has no line with a custom_id: {remedy}")
    if lines > len(ids):
        log.warning(
            "input file of batch %s: %s without a custom_id (no row), %s (one row each)",
            batch.id, counted(unreadable, "line"), counted(lines - unreadable - len(ids), "duplicate custom_id"),
        )  # fmt: skip
    return list(ids)


def _mentioned_ids(client: SiliconFlowClient, batch: Batch, files: JobDirectory, tolerance: Tolerance) -> list[str]:
    """Return the custom ids in the batch's output and error file, once the batch has delivered them."""
    for pause in retry_pauses(DELIVERY_TIME, FIRST_PAUSE):
        contents: ResultContents | None = None
        failure: SiliconFlowError | None
        is_acceptable = tolerance.accepts_incomplete
        try:
            # Also for new URLs: signed ones expire.
            with closing(download_result_files(client, client.get_batch(batch.id), files.create)) as results:
                contents, failure = results.contents, results.gone
                problem = delivery_problem(results.batch, contents)
                if failure is None and problem is not None:
                    failure = UnreadableAnswerError(problem.message)
                    is_acceptable = tolerance.accepts_incomplete or not problem.is_error
        except SiliconFlowError as error:
            failure = error
        if contents is not None and (failure is None or (pause is None and is_acceptable)):
            return list(dict.fromkeys([*contents.output.ids, *contents.errors.ids]))
        if failure is not None and (pause is None or not is_retryable(failure)):
            raise failure if contents is None else failure.reworded(f"{failure.message}: {tolerance.remedy}")
        log.warning("could not fetch the results of batch %s, will keep trying: %s", batch.id, failure)
        clock.sleep(pause or 0)
    raise AssertionError("the last pause is None")


def _published_batch(files: JobDirectory) -> str | None:
    """Return the id of the batch whose results are published; None if it is unknown."""
    try:
        manifest = files.read_json(MANIFEST, _Manifest)
    except ValueError:
        return None
    return manifest.batches[0].id if manifest is not None and len(manifest.batches) == 1 else None


class _BatchReport(msgspec.Struct):
    id: str


class _Manifest(msgspec.Struct):
    batches: list[_BatchReport]
