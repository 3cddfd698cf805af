"""Keep the job file of a replaced job, so that a later job of the directory can reuse its answers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import PurePosixPath

from siliconflow_provider.job_directory import (
    JOB,
    MANIFEST,
    REPLACED,
    RESULTS,
    JobDirectory,
    UnreadableFileError,
    replaced_name,
    result_rows_name,
)
from siliconflow_provider.jobs.job import Job
from siliconflow_provider.jobs.request_files import RequestFiles, RequestsLostError
from siliconflow_provider.jobs.reuse import EarlierAnswers

log = logging.getLogger(__name__)

_JOB = PurePosixPath(JOB).name


def keep_job_file(files: JobDirectory, job: Job) -> None:
    """Write the job file of a job that is about to be replaced to the directory of its results."""
    files.publish_json(replaced_name(_JOB, job.id), job)


def answers_of_replaced_jobs(files: JobDirectory, newest: Job, service: str | None) -> Iterator[EarlierAnswers]:
    """Yield the answers of the jobs that were replaced before this one, the latest first.

    The local copies of a job's files are removed when the next one is yielded.

    :param newest: jobs with another `submission_key` are left out, since a person wanted no answer of theirs
    :param service: the new job's, as in its definition; jobs of another one are left out
    """
    found = [_read_job(files, job_id) for job_id in files.names(REPLACED) if job_id != newest.id]
    jobs = [job for job in found if job is not None and job.key == newest.key and job.service == service]
    for job in sorted(jobs, key=lambda job: job.first_round.planned_at, reverse=True):
        yield from _answers_of(files, job)


def _read_job(files: JobDirectory, job_id: str) -> Job | None:
    try:
        return files.read_json(replaced_name(_JOB, job_id), Job)
    except UnreadableFileError as error:
        log.warning("reusing no answers of an earlier job: %s", error)
        return None


def _answers_of(files: JobDirectory, job: Job) -> Iterator[EarlierAnswers]:
    # Its results are still in place if no later job has written any.
    published = files.read_json(MANIFEST, dict) or {}
    name = result_rows_name(published) if published.get("job_id") == job.id else replaced_name(RESULTS, job.id)
    requests = RequestFiles(files, job.directory)
    try:
        rows = files.fetch(name)
        if rows is not None:
            yield EarlierAnswers(requests.path(job.all_requests), rows)
    except RequestsLostError as error:
        log.warning("reusing no answers of the earlier job %s: %s", job.id, error)
    finally:
        requests.release()
        files.discard(name)
