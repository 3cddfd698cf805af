"""The results of batches, fetched and written to a local directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import IO, Any

import msgspec

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import ServiceError, SiliconFlowError, UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.recovery import is_retryable, retry_pauses
from siliconflow_provider.job_directory import ERRORS, MANIFEST, RESULTS, Files
from siliconflow_provider.jsonl import LONGEST_LINE, blocks_of, lines_within, pieces_of
from siliconflow_provider.outputs.answers import parse_answer
from siliconflow_provider.outputs.completeness import Contents, FileContents, contents_of, problem_of
from siliconflow_provider.outputs.manifest import Tally, build_manifest
from siliconflow_provider.outputs.merge import rows_of_batch
from siliconflow_provider.outputs.ownership import Output
from siliconflow_provider.outputs.row_errors import RowErrors, whole_of_batch, write_whole

log = logging.getLogger(__name__)

SAMPLED_LINES = 100
# A batch that says it is over may show its counts and files some seconds later.
DELIVERY_TIME = timedelta(minutes=10)
FIRST_PAUSE = 2.0
GONE = (404, 410)


@dataclass(frozen=True)
class ResultFiles:
    """The result files of a batch, on the local disk; one that it does not have is empty.

    :param gone: why a file could not be had, where the service does not find it; it is empty then
    """

    batch: Batch
    output: IO[bytes]
    errors: IO[bytes]
    contents: Contents
    gone: ServiceError | None

    def blocks(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield each file's name in messages and its lines."""
        for name, file in (("output", self.output), ("error", self.errors)):
            file.seek(0)
            yield name, blocks_of(pieces_of(file), LONGEST_LINE)


@contextmanager
def fetched(client: SiliconFlowClient, batch: Batch, create: Callable[[str], IO[bytes]]) -> Iterator[ResultFiles]:
    """Download the result files of a batch.

    :param create: opens a new local file of that name
    :raises UnreadableAnswerError: when what came is no result file
    """
    with ExitStack() as stack:
        files: list[IO[bytes]] = []
        contents: list[FileContents] = []
        gone: ServiceError | None = None
        for name, file_ref in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            file = stack.enter_context(create(f"fetched-{name}"))
            if file_ref is not None:
                try:
                    _download(client, file_ref, file, f"the {name} file of {batch.id}")
                except ServiceError as error:
                    if error.status not in GONE:
                        raise
                    gone = error
                    file.truncate(0)
            file.seek(0)
            files.append(file)
            contents.append(contents_of(blocks_of(pieces_of(file), LONGEST_LINE)))
        yield ResultFiles(batch, files[0], files[1], Contents(*contents), gone)


def deliver_results(client: SiliconFlowClient, batch: Batch, files: Files, task: str) -> dict[str, Any]:
    """Publish a batch's rows and manifest, and return the manifest.

    What the task has published of another batch is kept under that one's id.

    :param batch: that is over; what it has not delivered yet is asked for again for a while
    :param task: the task instance whose the files are
    :raises OutputTakenError: when there are other files in their place; nothing is fetched then
    :raises SiliconFlowError: when it is not delivered, or cannot be fetched, for ten minutes
    """
    output = Output(files, task)
    is_ours = _published_batch(files) == batch.id
    output.check(is_ours=is_ours)
    paths = {"results": files.url(RESULTS), "manifest": files.url(MANIFEST)}
    with _delivered(client, batch, files.create) as results, files.create(ERRORS) as whole_errors:
        tally, errors = Tally(), RowErrors(whole_errors, client.without_secrets)
        (_, answers), (_, failures) = results.blocks()
        write_whole(whole_errors, whole_of_batch(results.batch))
        output.claim(is_ours=is_ours)
        with output.writing(RESULTS) as rows:
            for row in rows_of_batch(results.batch.id, answers, failures, tally, errors):
                rows.write(msgspec.json.encode(row) + b"\n")
            output.keep_replaced(_published_batch(files), batch.id)
        if whole_errors.tell():
            whole_errors.flush()
            files.publish(ERRORS)
            paths["errors"] = files.url(ERRORS)
        manifest = build_manifest([results.batch], tally, paths)
    output.write_manifest(manifest)
    return manifest


def _published_batch(files: Files) -> str | None:
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


@contextmanager
def _delivered(client: SiliconFlowClient, batch: Batch, create: Callable[[str], IO[bytes]]) -> Iterator[ResultFiles]:
    """Download the result files of a batch once it has delivered them."""
    is_fresh = True
    for pause in retry_pauses(DELIVERY_TIME, FIRST_PAUSE):
        with ExitStack() as stack:
            try:
                # Also for a new URL: signed ones expire.
                batch = batch if is_fresh else client.get_batch(batch.id)
                results = stack.enter_context(fetched(client, batch, create))
                failure = _failure_of(results)
            except SiliconFlowError as error:
                failure = error
            if failure is None:
                yield results
                return
        if pause is None or not is_retryable(failure):
            raise failure
        log.warning("could not fetch the results of batch %s, will keep trying: %s", batch.id, failure)
        clock.sleep(pause)
        is_fresh = False


def _failure_of(results: ResultFiles) -> SiliconFlowError | None:
    """Return why these are not the results of a batch, as far as the batch itself tells; None when they are."""
    problem = problem_of(results.batch, results.contents)
    if results.gone is not None or problem is None:
        return results.gone
    return UnreadableAnswerError(f"{problem.message}: nothing was written, a retry asks again")


def _download(client: SiliconFlowClient, file_ref: str, fileobj: IO[bytes], name: str) -> None:
    """Download a result file.

    :param name: the file in messages
    :raises UnreadableAnswerError: when what came is no result file, such as a proxy's page
    """
    client.download(file_ref, fileobj)
    fileobj.seek(0)
    lines = [line for line in islice(lines_within(fileobj), SAMPLED_LINES) if line.strip()]
    if lines and not any(map(_is_answer, lines)):
        raise UnreadableAnswerError(f"what came as {name} has no line of a result file: a retry asks again")


def _is_answer(line: bytes) -> bool:
    try:
        parse_answer(line, "")
    except msgspec.DecodeError:
        return False
    return True
