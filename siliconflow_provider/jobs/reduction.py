"""Leave out requests of a new job that need not be sent: answered ones, and those equal to another request."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import structs

from siliconflow_provider.inputs import Part, position_of_line
from siliconflow_provider.job_directory import (
    DUPLICATES,
    KEPT,
    REQUESTS,
    JobDirectory,
    job_file_name,
    requests_name,
)
from siliconflow_provider.jobs.earlier_runs import EarlierRun, Service, reuse_run
from siliconflow_provider.jobs.job import Duplicate, Inherited, Job, Reuse
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.request_index import RequestIndex
from siliconflow_provider.jobs.reuse import KEPT_ROUND, EarlierAnswers, ReusedRows, write_unanswered
from siliconflow_provider.jsonl import BlockWriter
from siliconflow_provider.outputs import Validate
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReuseSettings:
    """Say which requests of a new job need not be sent.

    :param validate: checks each answer before it is reused
    :param deduplicate: True to send equal requests once
    :param find_runs: returns the earlier runs whose answers are reused, the preferred ones first; called only for a
        new job. None if the task does not reuse any
    :param service: the base URL of the task's service, for messages
    """

    validate: Validate | None = None
    deduplicate: bool = False
    find_runs: Callable[[], Sequence[EarlierRun]] | None = None
    service: str = "the service"

    @property
    def has_reused_rows(self) -> bool:
        """True if the task's rows say whether they were reused."""
        return self.deduplicate or self.find_runs is not None


NO_REUSE = ReuseSettings()


@dataclass(frozen=True)
class PreviousAnswers:
    """The answers of the jobs that a new job follows in its directory.

    :param newest: those of the job that it replaces; None if there are none
    :param older: those of the jobs before, the latest first
    """

    newest: EarlierAnswers | None = None
    older: Iterable[EarlierAnswers] = ()

    def keep(self, rows: ReusedRows) -> int:
        """Reuse the answers. Return how many answers of the replaced job were not needed."""
        answers = 0 if self.newest is None else rows.add(self.newest, kept_round=KEPT_ROUND)
        dropped = answers - rows.count
        older = iter(self.older)
        # The files of older jobs are fetched only while a request has no answer.
        while not rows.is_complete and (earlier := next(older, None)) is not None:
            try:
                rows.add(earlier, kept_round=KEPT_ROUND, only_new=True)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                log.warning("reusing not all answers of an earlier job: %s is damaged", earlier.rows)
        return dropped


@dataclass(frozen=True)
class Reduced:
    """A new job that sends only the requests that need to be sent.

    :param kept: the number of answers of the replaced job that it reuses
    :param dropped: the number of the other answers of the replaced job
    """

    job: Job
    kept: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class _Choice:
    """The requests that a job sends.

    :param sent: the positions of each part's requests that are sent
    :param stays: for each part, True if it stays as it is, because a batch runs for it
    """

    kept: int
    dropped: int
    reused: int
    duplicates: int
    sent: list[array[int]]
    stays: list[bool]


def _is_never_running(part: Part) -> bool:
    return False


def reduce_requests(
    files: JobDirectory,
    job: Job,
    settings: ReuseSettings,
    replaced: PreviousAnswers | None = None,
    is_running: Callable[[Part], bool] = _is_never_running,
) -> Reduced:
    """Return a new job that sends only the requests that need to be sent. Its files are local; nothing is published.

    :param replaced: the answers of the job that this one replaces, and of those before
    :param is_running: returns True if a batch of the task runs for a part; without any answer, that part is sent as
        it is
    :raises ReuseError: if a directory of `reuse_from` cannot be used
    """
    if not settings.has_reused_rows and replaced is None:
        return Reduced(job)
    path = files.fetch(job_file_name(REQUESTS, job.directory))
    if path is None:
        raise RequestsLostError(f"{files.url(job_file_name(REQUESTS, job.directory))} is missing: run the task again")
    parts = job.first_round.parts
    choice = _choose(files, job, path, settings, replaced, is_running)
    if settings.has_reused_rows:
        job = structs.replace(job, reuse=Reuse(rows=choice.reused, duplicates=choice.duplicates))
    rows = choice.kept + choice.reused
    if rows or choice.duplicates:
        with files.create(job_file_name(requests_name(1), job.directory)) as file:
            sent, lines = write_unanswered(path, parts, choice.sent, choice.stays, file)
        indexes = [position_of_line(line, job.rejected) for line in lines] if job.rejected else lines
        job = structs.replace(
            job,
            first_round=structs.replace(job.first_round, parts=sent, indexes=indexes),
            inherited=structs.replace(job.inherited or Inherited(), rows=rows, parts=parts),
        )
    if settings.has_reused_rows:
        log.info(
            "sending %s: reusing %s of earlier runs, leaving out %s",
            counted(job.sent, "request"), counted(choice.reused, "answer"),
            counted(choice.duplicates, "duplicate request"),
        )  # fmt: skip
    return Reduced(job, choice.kept, choice.dropped)


def _choose(
    files: JobDirectory,
    job: Job,
    requests: Path,
    settings: ReuseSettings,
    replaced: PreviousAnswers | None,
    is_running: Callable[[Part], bool],
) -> _Choice:
    """Write the rows of requests that are not sent, and return the others. The index is freed at the end."""
    runs = [] if settings.find_runs is None else settings.find_runs()
    service = Service(settings.service, job.service)
    parts = job.first_round.parts
    with RequestIndex(requests, job.sent) as index:
        with files.create(job_file_name(KEPT, job.directory)) as file:
            rows = ReusedRows(index, file, settings.validate, job.rejected)
            dropped = 0 if replaced is None else replaced.keep(rows)
            if settings.deduplicate:
                rows.share()
            kept, start = rows.count, rows.size
            for run in runs:
                if not rows.is_complete:
                    reuse_run(run, rows, service)
            rows.share(start)
            rows.finish()
        stays = [not index.has_answers(part.first, part.lines) and is_running(part) for part in parts]
        with files.create(job_file_name(DUPLICATES, job.directory)) as file:
            duplicates = _Duplicates(file, job.rejected) if settings.deduplicate else None
            sent = _positions_to_send(index, parts, stays, duplicates)
            count = 0 if duplicates is None else duplicates.finish()
    return _Choice(kept, dropped, rows.count - kept, count, sent, stays)


class _Duplicates:
    """Write the requests that get the row of an equal one.

    :param file: an empty local file
    :param rejected: the positions of the job's items that have no request line
    """

    def __init__(self, file: IO[bytes], rejected: Sequence[int] = ()) -> None:
        self._writer = BlockWriter(file)
        self._rejected = rejected
        self._count = 0

    def add(self, line: int, sent: int, custom_id: str) -> None:
        """Add a request.

        :param line: its number in the file of all requests
        :param sent: the number of the equal request
        """
        index, sent_index = (position_of_line(number, self._rejected) for number in (line, sent))
        duplicate = Duplicate(index, sent_index, custom_id)
        self._writer.write(msgspec.json.encode(duplicate) + b"\n")
        self._count += 1

    def finish(self) -> int:
        """Write the buffered lines, and return the number of all."""
        self._writer.flush()
        return self._count


def _positions_to_send(
    index: RequestIndex, parts: Sequence[Part], stays: Sequence[bool], duplicates: _Duplicates | None
) -> list[array[int]]:
    """Return the positions of each part's requests that are sent.

    :param duplicates: takes the requests that are equal to one that is sent; None to send them all
    """
    is_sent = bytearray(len(index))
    for part in compress(parts, stays):
        for position in range(part.first, part.first + part.lines):
            is_sent[position] = True
            index.represent(position)
    return [
        array("I", range(part.first, part.first + part.lines))
        if stay
        else array("I", _unanswered(index, part, is_sent, duplicates))
        for part, stay in zip(parts, stays, strict=True)
    ]


def _unanswered(index: RequestIndex, part: Part, is_sent: bytearray, duplicates: _Duplicates | None) -> Iterator[int]:
    for position in index.unanswered(part.first, part.lines):
        first = index.representative(position) if duplicates is not None else position
        if duplicates is not None and is_sent[first]:
            duplicates.add(position, first, index.custom_id(position))
            continue
        is_sent[position] = True
        index.represent(position)
        yield position
