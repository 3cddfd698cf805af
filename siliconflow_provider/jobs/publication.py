"""What a job has written: its results and its manifest, which outlive what the service remembers."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from siliconflow_provider.api.models import Batch
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import (
    ERRORS,
    MANIFEST,
    RESULTS,
    ROWS,
    JobDirectory,
    UnreadableFileError,
    job_file_name,
)
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.outputs import (
    FullError,
    OutputDirectory,
    ResultRow,
    ResultStore,
    build_manifest,
    full_errors_of_batch,
    read_full_errors,
    report_batch,
    write_full_errors,
)

BatchOfPart = tuple[Round, Part, Batch]


@dataclass(frozen=True)
class EarlierResults:
    """What an earlier attempt at this job has written, if any has.

    :param reports: of its batches, by round and part
    :param manifest: as it was written
    """

    reports: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, files: JobDirectory, job: Job) -> EarlierResults:
        """Read the manifest, unless it is another job's."""
        manifest = files.read_json(MANIFEST, dict)
        if manifest is None or manifest.get("job_id") != job.id:
            return cls()
        return cls({(each["round"], each["part"]): each for each in manifest["batches"]}, manifest)

    def has(self, round_: Round, part: Part) -> bool:
        """Whether a batch of this part is in the manifest."""
        return (round_.number, part.sha256) in self.reports

    def has_all(self, batches: Iterable[BatchOfPart]) -> bool:
        """Whether the manifest is complete, and has what these batches have come to."""
        if not self.manifest.get("complete"):
            return False
        ends = ((self.reports.get((each.number, part.sha256), {}), batch) for each, part, batch in batches)
        return all((report.get("id"), report.get("status")) == (batch.id, batch.final_status) for report, batch in ends)

    def positions(self, files: JobDirectory, requests: int) -> bytearray:
        """Return which requests, by position, have a row that tells what became of them.

        :param requests: how many there are
        """
        known = bytearray(requests)
        for row in self.rows(files):
            if row.index is not None and row.index < requests:
                known[row.index] = row.status != "unfinished"
        return known

    def rows(self, files: JobDirectory) -> Iterator[ResultRow]:
        """Yield the rows of the results, unless those are another job's."""
        if self.reports:
            yield from read_rows(files, RESULTS)


def read_rows(files: JobDirectory, name: str) -> Iterator[ResultRow]:
    """Yield the rows of a file of them; none where there is no such file.

    :raises UnreadableFileError: when it has other lines
    """
    try:
        yield from map(msgspec.json.Decoder(ResultRow).decode, files.lines(name))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableFileError.of(files.url(name), ResultRow, error) from None


def publish_results(
    files: JobDirectory,
    job: Job,
    answers: ResultStore,
    batches: Sequence[BatchOfPart],
    landed: EarlierResults,
    *,
    complete: bool,
) -> dict[str, Any]:
    """Write one row a request and the manifest, publish both, and return the manifest.

    What another job of the task has published under these names is kept under its id.

    :param batches: that the service shows, each with its round and part
    :param landed: what was written before: the manifest keeps the batches that the service has forgotten
    :raises OutputConflictError: when there is a file of another one under these names
    :raises RequestsLostError: when the rows that the requests were made of are gone
    """
    output = OutputDirectory(files, job.task)
    inputs = _inputs(files, job_file_name(ROWS, job.directory)) if job.has_rows else None
    with output.writing(RESULTS) as results:
        answers.write(results, inputs)
        published = files.read_json(MANIFEST, dict) or {}
        output.archive_replaced_files(published.get("job_id"), job.id)
    manifest = _manifest(files, job, answers, batches, landed, complete=complete)
    output.write_manifest(manifest)
    return manifest


def _manifest(
    files: JobDirectory,
    job: Job,
    answers: ResultStore,
    batches: Sequence[BatchOfPart],
    landed: EarlierResults,
    *,
    complete: bool,
) -> dict[str, Any]:
    shown = {(each.number, part.sha256) for each, part, _ in batches}
    forgotten = [report for name, report in landed.reports.items() if name not in shown]
    paths = {"results": files.url(RESULTS), "manifest": files.url(MANIFEST)}
    errors = job_file_name(ERRORS, job.directory)
    if _write_errors(files, errors, answers, batches, {report["id"] for report in forgotten}):
        files.publish(errors)
        paths["errors"] = files.url(errors)
    return build_manifest(
        {"key": job.key, "job_id": job.id},
        answers,
        [*forgotten, *(report_batch(batch, each.number, part.sha256) for each, part, batch in batches)],
        paths=paths,
        kept=0 if job.inherited is None else job.inherited.rows,
        complete=complete,
    )


def _write_errors(
    files: JobDirectory, name: str, answers: ResultStore, batches: Sequence[BatchOfPart], forgotten: Collection[str]
) -> int:
    """Write what is cut in the rows and the manifest, whole, and return how many errors that are.

    :param forgotten: ids of the batches whose errors are only in what has landed
    """
    landed = files.fetch(name)
    with files.create(f"{name}.new") as new:
        count = write_full_errors(
            new,
            chain(
                chain.from_iterable(full_errors_of_batch(batch, round_.number) for round_, _, batch in batches),
                (each for each in _whole_in(landed) if each.index is None and each.batch_id in forgotten),
                answers.full_errors(_whole_in(landed)),
            ),
        )
        if count:
            new.seek(0)
            with files.create(name) as file:
                shutil.copyfileobj(new, file)
    files.discard(f"{name}.new")
    return count


def _whole_in(path: Path | None) -> Iterator[FullError]:
    return iter(()) if path is None else read_full_errors(path)


def _inputs(files: JobDirectory, name: str) -> Iterator[bytes]:
    """Yield the rows that the requests were made of.

    :raises RequestsLostError: where they end too early
    """
    yield from files.lines(name)
    raise RequestsLostError(
        f"{files.url(name)} is gone, or not whole: put it back, or results would lack what was asked"
    )
