"""Publish a new job and its files, so that concurrent attempts agree on one job."""

from __future__ import annotations

from collections.abc import Sequence

from siliconflow_provider.batches import wait_for_list
from siliconflow_provider.job_directory import (
    DUPLICATES,
    JOB,
    KEPT,
    REJECTED,
    REQUESTS,
    ROWS,
    JobDirectory,
    job_file_name,
    requests_name,
)
from siliconflow_provider.jobs.job import Job


def own_files(job: Job) -> list[str]:
    """Return the names of a new job's files; the file with all requests comes first, and that of round 1 last."""
    names = [REQUESTS, *([ROWS] if job.has_rows else []), *([REJECTED] if job.rejected else [])]
    if job.inherited is not None and job.inherited.parts:
        names += [KEPT, *([DUPLICATES] if job.duplicates else []), requests_name(1)]
    return [job_file_name(name, job.directory) for name in names]


def publish_job(files: JobDirectory, job: Job, names: Sequence[str], known: Job | None) -> Job | None:
    """Publish a job and its files; return the job of another attempt instead if there is one.

    :param known: the job that this one replaces
    """
    other = _other_job(files, known)
    if other is not None:
        return other
    for name in names:
        files.publish(name)
    # Large files take minutes to publish; another attempt may have prepared and submitted its job in this time.
    other = _other_job(files, known)
    if other is not None:
        return other
    # The job comes last: once it exists, its requests exist too.
    files.publish_json(JOB, job)
    wait_for_list()
    other = _other_job(files, job)
    if other is None:
        files.restore(*names)
    return other


def _other_job(files: JobDirectory, known: Job | None) -> Job | None:
    """Return the job that another attempt of this task has published meanwhile, or None."""
    files.discard(JOB)
    published = files.read_json(JOB, Job)
    return published if published is not None and (known is None or published.id != known.id) else None
