"""Reuse the answers of the earlier runs that `reuse_from` names."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from siliconflow_provider.api.redaction import shown_error
from siliconflow_provider.job_directory import (
    JOB,
    MANIFEST,
    RESULT_ROWS,
    RESULTS,
    TEMPORARY_ERRORS,
    JobDirectory,
    UnreadableFileError,
    result_rows_name,
)
from siliconflow_provider.jobs.job import Job
from siliconflow_provider.jobs.request_files import RequestFiles, RequestsLostError
from siliconflow_provider.jobs.reuse import EarlierAnswers, ReusedRows
from siliconflow_provider.outputs import was_written
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)


class ReuseError(ValueError):
    """The answers in a directory of `reuse_from` cannot be reused. Nothing was submitted."""


@dataclass(frozen=True)
class EarlierRun:
    """The `output_path` of an earlier run.

    :param name: the path in messages
    :param is_required: True if it is an error that its answers cannot be reused; otherwise that is a warning
    """

    name: str
    files: JobDirectory
    is_required: bool


@dataclass(frozen=True)
class Service:
    """The service that a job sends its requests to.

    :param address: its base URL, for messages
    :param fingerprint: its hash in the job's definition; None if the definition has none
    """

    address: str
    fingerprint: str | None


def reuse_run(run: EarlierRun, rows: ReusedRows, service: Service) -> None:
    """Reuse the answers of an earlier run. Its files are only read, and the local copies are removed.

    :param service: the service of the new job; answers of another one are not reused
    :raises ReuseError: if the answers cannot be reused, and the run is required
    :raises OSError: if the files cannot be read, and either the run is required or a retry may read them
    """
    try:
        reason = _reuse(run, rows, service)
    except RequestsLostError:
        reason = "the file of its requests is missing or was changed"
    except (UnreadableFileError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason = "its files are damaged, or another version of this provider wrote them"
    except (OSError, ValueError) as error:
        # Going on after an error that passes would pay again for the answers.
        if run.is_required or _is_temporary(error):
            raise
        reason = shown_error(error)
    finally:
        for name in (JOB, MANIFEST, RESULTS, RESULT_ROWS):
            run.files.discard(name)
    if reason is None:
        return
    if run.is_required:
        raise ReuseError(
            f"reuse_from names {run.name}, but its answers cannot be reused: {reason}.\nNothing was submitted.\n"
            "Correct the path or remove it.\nIf the directory may be absent, as at the first run of a DAG, end the "
            "path with *"
        )
    log.warning("reusing no answers of %s: %s", run.name, reason)


def _is_temporary(error: Exception) -> bool:
    return getattr(error, "is_temporary", False) or getattr(error, "errno", None) in TEMPORARY_ERRORS


def _reuse(run: EarlierRun, rows: ReusedRows, service: Service) -> str | None:
    """Reuse the answers of an earlier run; return the reason if that is not possible."""
    files = run.files
    job = files.read_json(JOB, Job)
    if job is None:
        return "it does not exist, or is no output_path of a BatchInferenceOperator (it has no _siliconflow/job.json)"
    if job.service != service.fingerprint:
        # The rows that it reused itself are of its own service, too.
        return f"they come from another service than {service.address}, which this task's connection leads to"
    manifest = files.read_json(MANIFEST, dict)
    if manifest is None or manifest.get("job_id") != job.id:
        return "its job has written no results yet"
    name = result_rows_name(manifest)
    results = files.fetch(name)
    # Beside results of another format, the rows are among the task's own files.
    if results is None or (name == RESULTS and not was_written(files, name, results)):
        return f"its {name} is missing or was changed"
    requests = RequestFiles(files, job.directory)
    path = requests.path(job.all_requests)
    # Another job of that task would have replaced its job file before the results.
    files.discard(JOB)
    if files.read_json(JOB, Job) != job:
        return "its job is being replaced by another one"
    before = rows.count
    rows.add(EarlierAnswers(path, results))
    requests.release()
    if not manifest.get("complete"):
        log.warning("the job in %s is not over: only the answers that it has written are reused", run.name)
    if rows.count > before:
        log.info("reusing %s of %s", counted(rows.count - before, "answer"), run.name)
    return None
