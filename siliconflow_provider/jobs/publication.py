"""Write results and manifest, and read those of an earlier attempt. They outlast the service's 30 days."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from siliconflow_provider.api.models import Batch
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import (
    ERRORS,
    MANIFEST,
    REPORT,
    RESULT_ROWS,
    ROWS,
    JobDirectory,
    UnreadableFileError,
    job_file_name,
    result_rows_name,
)
from siliconflow_provider.jobs.costs import compare_with_bill
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.outputs import (
    JSON_LINES,
    FullError,
    OutputDirectory,
    OutputFormat,
    ResultRow,
    ResultStore,
    ResultTable,
    build_manifest,
    full_errors_of_batch,
    read_full_errors,
    report_batch,
    write_full_errors,
)
from siliconflow_provider.report import ReportContext, ReportRows, write_report

log = logging.getLogger(__name__)

BatchOfPart = tuple[Round, Part, Batch]
T = TypeVar("T")
_CONTEXT = ReportContext()


@dataclass(frozen=True)
class EarlierResults:
    """The published results of an earlier attempt at this job; empty if there are none.

    :param reports: the manifest's entries of batches, by round and part
    :param manifest: the published manifest
    """

    reports: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, files: JobDirectory, job: Job) -> EarlierResults:
        """Read the manifest; return empty results if it is another job's."""
        manifest = files.read_json(MANIFEST, dict)
        if manifest is None or manifest.get("job_id") != job.id:
            return cls()
        return cls({(report["round"], report["part"]): report for report in manifest["batches"]}, manifest)

    def has(self, round_: Round, part: Part) -> bool:
        """Return True if the manifest has a batch of this part."""
        return (round_.number, part.sha256) in self.reports

    def has_all(self, batches: Iterable[BatchOfPart]) -> bool:
        """Return True if the manifest is complete, and has the final status of each of these batches."""
        if not self.manifest.get("complete"):
            return False
        ends = ((self.reports.get((round_.number, part.sha256), {}), batch) for round_, part, batch in batches)
        return all((report.get("id"), report.get("status")) == (batch.id, batch.final_status) for report, batch in ends)

    def positions(self, files: JobDirectory, requests: int) -> bytearray:
        """Return, by position, 1 for each request that has a final row.

        :param requests: the number of requests
        """
        known = bytearray(requests)
        for row in self.rows(files):
            if row.index is not None and row.index < requests:
                known[row.index] = row.status != "unfinished"
        return known

    def rows(self, files: JobDirectory) -> Iterator[ResultRow]:
        """Yield the rows of the published results; none if they are another job's.

        :raises RequestsLostError: if a table is published, but the rows that it was written from are missing
        """
        if not self.reports:
            return
        name = result_rows_name(self.manifest)
        if name == RESULT_ROWS and files.size(name) is None:
            # Going on would overwrite a table that has answers which the service may have deleted.
            raise RequestsLostError(
                f"{files.url(name)} is missing; restore it: {self.manifest['paths']['results']} is written from its "
                "rows, and the service has deleted some of their batches"
            )
        yield from read_rows(files, name)


def read_rows(files: JobDirectory, name: str) -> Iterator[ResultRow]:
    """Yield the rows of a file; none if the file does not exist.

    :raises UnreadableFileError: if a line is not a row
    """
    return read_lines(files, name, ResultRow)


def read_lines(files: JobDirectory, name: str, kind: type[T]) -> Iterator[T]:
    """Yield the value of each line of a file; none if the file does not exist.

    :raises UnreadableFileError: if a line holds no such value
    """
    try:
        yield from map(msgspec.json.Decoder(kind).decode, files.lines(name))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableFileError.of(files.url(name), kind, error) from None


def publish_results(
    files: JobDirectory,
    job: Job,
    answers: ResultStore,
    batches: Sequence[BatchOfPart],
    earlier: EarlierResults,
    *,
    complete: bool,
    rounds: Sequence[Round] = (),
    output_format: OutputFormat = JSON_LINES,
    context: ReportContext = _CONTEXT,
) -> dict[str, Any]:
    """Write one row for each request, the report and the manifest, publish them, and return the manifest.

    Files that another job of the task has published under these names are kept in a directory named for that job.

    :param batches: the batches at the service, each with its round and part
    :param earlier: the published results; their batches stay in the manifest after the service has deleted them
    :param rounds: the planned rounds, the first one first
    :param context: for the report
    :raises OutputConflictError: if one of these files was not written by the task
    :raises RequestsLostError: if the input rows of the requests are missing
    """
    output = OutputDirectory(files, job.task, output_format.results)
    inputs = _inputs(files, job_file_name(ROWS, job.directory)) if job.has_rows else None
    columns: dict[str, str] = {}
    shown = ReportRows(answers, context.without_secrets)
    inputs = shown.note_inputs(_inputs(files, job_file_name(ROWS, job.directory))) if job.has_rows else None
    with output.writing(output_format.results) as results:
        if output_format.name == "jsonl":
            answers.write(results, inputs)
        else:
            columns = _write_table(files, job, answers, inputs, output_format, results)
        output.archive_replaced_files(files.read_json(MANIFEST, dict) or {}, job.id)
        if output_format.name != "jsonl":
            output.publish_rows()
    manifest = _manifest(
        files, job, answers, batches, earlier, complete=complete, rounds=rounds, output_format=output_format
    )
    if columns:
        manifest["columns"]["table"] = columns
    if write_report(output, manifest, shown, replace(context, task=job.task)):
        manifest["paths"]["report"] = files.url(REPORT)
    output.write_manifest(manifest)
    return manifest


def _write_table(
    files: JobDirectory,
    job: Job,
    answers: ResultStore,
    inputs: Iterator[bytes] | None,
    output_format: OutputFormat,
    results: IO[bytes],
) -> dict[str, str]:
    """Write the rows as JSON lines to a local file, and from there as a table. Return the types of its columns."""
    with files.create(RESULT_ROWS) as rows:
        answers.write(rows, inputs)
    table = ResultTable(lambda: files.lines(RESULT_ROWS), job.known_input_schema, output_format.columns)
    columns = table.write(output_format.name, results)
    renamed = [column for column in columns if column.is_renamed]
    if renamed:
        log.info(
            "columns with the names of others in %s: %s",
            files.url(output_format.results), ", ".join(f"{column.source} is {column.name}" for column in renamed),
        )  # fmt: skip
    return {column.name: column.type for column in columns}


def _manifest(
    files: JobDirectory,
    job: Job,
    answers: ResultStore,
    batches: Sequence[BatchOfPart],
    earlier: EarlierResults,
    *,
    complete: bool,
    rounds: Sequence[Round],
    output_format: OutputFormat,
) -> dict[str, Any]:
    deleted = _reports_of_deleted(answers, batches, earlier)
    shown = [
        report_batch(batch, round_.number, part.sha256, answers.usage_of(batch.id), answers.price)
        for round_, part, batch in batches
    ]
    paths = {"results": files.url(output_format.results), "manifest": files.url(MANIFEST)}
    errors = job_file_name(ERRORS, job.directory)
    if _write_errors(files, errors, answers, batches, {report["id"] for report in deleted}):
        files.publish(errors)
        paths["errors"] = files.url(errors)
    manifest = build_manifest(
        {
            "key": job.key,
            "job_id": job.id,
            "output_format": output_format.name,
            "columns": {"input": job.known_input_schema, "output": output_format.columns},
        },
        answers,
        [*deleted, *shown],
        paths=paths,
        kept=job.kept,
        reused=job.reused,
        deduplicated=job.duplicates,
        complete=complete,
        price=answers.price,
        resent=[round_.to_report() for round_ in rounds[1:]],
    )
    if job.estimate:
        manifest["estimate"] = compare_with_bill(job.estimate, manifest)
    return manifest


def _reports_of_deleted(
    answers: ResultStore, batches: Sequence[BatchOfPart], earlier: EarlierResults
) -> list[dict[str, Any]]:
    """Return the published entries of the batches that the service has deleted."""
    shown = {(round_.number, part.sha256) for round_, part, _ in batches}
    return [
        {"tokens": answers.usage_of(report["id"]).to_json(), **report}
        for name, report in earlier.reports.items()
        if name not in shown
    ]


def _write_errors(
    files: JobDirectory, name: str, answers: ResultStore, batches: Sequence[BatchOfPart], deleted: Collection[str]
) -> int:
    """Write the full text of errors that are cut in rows or manifest; return their number.

    :param deleted: ids of the batches whose errors are only in the published file
    """
    published = files.fetch(name)
    with files.create(f"{name}.new") as new:
        count = write_full_errors(
            new,
            chain(
                chain.from_iterable(full_errors_of_batch(batch, round_.number) for round_, _, batch in batches),
                (error for error in _read_errors(published) if error.index is None and error.batch_id in deleted),
                answers.full_errors(_read_errors(published)),
            ),
        )
        if count:
            new.seek(0)
            with files.create(name) as file:
                shutil.copyfileobj(new, file)
    files.discard(f"{name}.new")
    return count


def _read_errors(path: Path | None) -> Iterator[FullError]:
    return iter(()) if path is None else read_full_errors(path)


def _inputs(files: JobDirectory, name: str) -> Iterator[bytes]:
    """Yield the input rows of the requests.

    :raises RequestsLostError: if there are fewer rows than requests
    """
    yield from files.lines(name)
    raise RequestsLostError(
        f"{files.url(name)} is missing or truncated; restore it: results include these rows as `input`"
    )
