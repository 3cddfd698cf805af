"""The results of one batch, whoever submitted it: collected and published like those of a job of one part."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import ServiceError, SiliconFlowError, UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import is_retryable, retry_pauses
from siliconflow_provider.batches import AIRFLOW_KEY
from siliconflow_provider.inputs import Part, PartWriter
from siliconflow_provider.job_directory import MANIFEST, REQUESTS, JobDirectory
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.publication import EarlierResults, publish_results
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.jobs.round_retrieval import RoundRetrieval, Tolerance
from siliconflow_provider.jsonl import read_lines
from siliconflow_provider.outputs import (
    DELIVERY_TIME,
    FIRST_PAUSE,
    OutputDirectory,
    ResultContents,
    ResultFiles,
    ResultStore,
    RowErrors,
    custom_id_of,
    delivery_problem,
    download_result_files,
)

log = logging.getLogger(__name__)

_REMEDY = "nothing was written, a retry asks again. If it stays, clear the task to write the results that there are"


def download_results(
    client: SiliconFlowClient, batch: Batch, files: JobDirectory, task: str, *, is_cleared: bool = False
) -> dict[str, Any]:
    """Publish one row for each request of a batch, and the manifest; return the manifest.

    The requests and their order are those of the batch's input file. Where the service does not give that any more,
    they are those that the results mention. Results of another batch that the task has published are kept.

    :param batch: that is over
    :param task: the task instance that owns the files
    :param is_cleared: whether a person started this attempt: then incomplete results are written too
    :raises OutputConflictError: when other files are in the place of these; nothing is downloaded then
    :raises SiliconFlowError: when results are incomplete, or cannot be downloaded, for ten minutes
    """
    output = OutputDirectory(files, task)
    is_ours = _published_batch(files) == batch.id
    output.check_claim(is_ours=is_ours)
    custom_ids = _sent_ids(client, batch, files)
    if custom_ids is None:
        custom_ids = _mentioned_ids(client, batch, files, accepts_incomplete=is_cleared)
    job = _job_of(batch, custom_ids, files, task)
    (part,) = job.first_round.parts
    with files.create("collected") as rows, files.create("collected-errors") as full_errors:
        results = ResultStore(job.requests, rows, errors=RowErrors(full_errors, client.without_secrets))
        retrieval = RoundRetrieval(
            client,
            files,
            RequestFiles(files),
            _KnownBatch(client, batch),
            results,
            job.first_round,
            later=(),
            requests_count=job.requests,
            landed=lambda round_, part: None,
            tolerance=Tolerance(DELIVERY_TIME, is_cleared, is_cleared, _REMEDY),
        )
        retrieval.run()
        for error in retrieval.failures.values():
            raise error
        if results.duplicates or results.unknown_requests:
            log.warning(
                "ignored %d duplicate lines and %d lines with unknown custom_ids in the results of batch %s",
                results.duplicates, results.unknown_requests, batch.id,
            )  # fmt: skip
        output.claim(is_ours=is_ours)
        shown = [(job.first_round, part, retrieval.batches.refresh(job.first_round, part))]
        return publish_results(files, job, results, shown, EarlierResults(), complete=True)


@dataclass
class _KnownBatch:
    """The batch of the only part."""

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
        writer = PartWriter(requests, most_lines=max(len(custom_ids), 1))
        for each in custom_ids:
            writer.write(msgspec.json.encode({"custom_id": each}) + b"\n")
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


def _sent_ids(client: SiliconFlowClient, batch: Batch, files: JobDirectory) -> list[str] | None:
    """Return the custom ids in the batch's input file, in order; None where the service does not give that file."""
    if batch.input_file_id is None:
        return None
    try:
        with files.create("input") as content:
            client.download(batch.input_file_id, content)
            content.seek(0)
            return list(dict.fromkeys(_ids_in(read_lines(content)))) or None
    except ServiceError as error:
        if error.status is None or not 400 <= error.status < 500:
            raise
        log.warning("the rows are those that the results mention: could not read the batch's input file: %s", error)
        return None
    finally:
        files.discard("input")


def _mentioned_ids(
    client: SiliconFlowClient, batch: Batch, files: JobDirectory, *, accepts_incomplete: bool
) -> list[str]:
    """Return the custom ids in the batch's results, once it has delivered them."""
    for pause in retry_pauses(DELIVERY_TIME, FIRST_PAUSE):
        try:
            with download_result_files(client, batch, files.create) as results:
                contents, failure = results.contents, _incomplete(results)
        except SiliconFlowError as error:
            contents, failure = ResultContents(), error
        if failure is None or (pause is None and accepts_incomplete):
            return list(dict.fromkeys([*contents.output.ids, *contents.errors.ids]))
        if pause is None or not is_retryable(failure):
            raise failure
        log.warning("could not fetch the results of batch %s, will keep trying: %s", batch.id, failure)
        clock.sleep(pause)
        batch = client.get_batch(batch.id)
    raise AssertionError("the last pause is None")


def _incomplete(results: ResultFiles) -> SiliconFlowError | None:
    problem = delivery_problem(results.batch, results.contents)
    if results.gone is not None or problem is None:
        return results.gone
    return UnreadableAnswerError(f"{problem.message}: {_REMEDY}")


def _ids_in(lines: Iterable[bytes]) -> Iterator[str]:
    for line in filter(bytes.strip, lines):
        try:
            yield custom_id_of(line)
        except msgspec.DecodeError:
            continue


def _published_batch(files: JobDirectory) -> str | None:
    """Return the id of the batch whose results are published; None where nothing tells it."""
    try:
        manifest = files.read_json(MANIFEST, _Manifest)
    except ValueError:
        return None
    return manifest.batches[0].id if manifest is not None and len(manifest.batches) == 1 else None


class _BatchReport(msgspec.Struct):
    id: str


class _Manifest(msgspec.Struct):
    batches: list[_BatchReport]
