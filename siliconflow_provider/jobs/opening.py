"""A job taken up: the one that is there continued, or a new one prepared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.jobs import creation
from siliconflow_provider.jobs.batches import may_be_of_job, runs_or_has_answered
from siliconflow_provider.jobs.files import JOB, REQUESTS, ROWS, Files, JobFilesError
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.own_batches import BatchFinder, OwnBatches
from siliconflow_provider.jobs.preparation import Prepared, prepare
from siliconflow_provider.jobs.recipe import Recipe
from siliconflow_provider.jobs.records import FileRecords
from siliconflow_provider.jobs.submission import Submission

log = logging.getLogger(__name__)

Source = tuple[str, Iterable[Any], Recipe]


def open_job(
    client: SiliconFlowClient,
    files: Files,
    submission: Submission,
    definition: dict[str, str],
    make: Callable[[], Source],
) -> Job:
    """Return the job of this task instance.

    :param submission: of any part of it
    :param definition: hashes of what the task asks for, by their name
    :param make: gives the source's name, its items and what is filled in; called for a new job only
    :raises JobFilesError: when the files are another job's, or those of one that has batches are gone
    """
    job = _settled_job(files)
    if job is None:
        _check_nothing_was_submitted(client, files, submission)
        return _prepare(files, submission, definition, make)
    changes = _changes(files, job, submission, definition)
    if not changes:
        _log_continuation(job)
        return job
    planned_at = pendulum.from_timestamp(job.first_round.planned_at)
    is_cleared = submission.is_cleared_since(job.first_round.max_tries, planned_at)
    if not (is_cleared and submission.may_start_over(planned_at)):
        raise _refusal(files, changes)
    _warn_of_running_batches(_own_batches(client, files, replace(submission, key=job.key)), changes)
    return _prepare(files, submission, definition, make, replaced=job)


def _settled_job(files: Files) -> Job | None:
    """Return the job that is there, once no attempt at the same time can replace it any more."""
    job = files.read_json(JOB, Job)
    if job is None or clock.now().timestamp() - job.first_round.planned_at > creation.SETTLING_SECONDS:
        return job
    creation.wait_for_list()
    files.discard(JOB)
    return files.read_json(JOB, Job)


def _changes(files: Files, job: Job, submission: Submission, definition: dict[str, str]) -> list[str]:
    """Return the names of what is asked for otherwise than in the job that is there."""
    if job.key != submission.key and job.task != submission.label:
        raise JobFilesError(
            f"{files.url(JOB)} is the job of another task instance ({job.task}): give each its own output_path, such "
            "as one with {{ run_id }}, and {{ ti.map_index }} where the task is mapped"
        )
    other_key = ["submission_key"] if job.key != submission.key else []
    return other_key + job.changes(definition)


def _refusal(files: Files, changes: list[str]) -> JobFilesError:
    return JobFilesError(
        f"{files.url(JOB)} was made with another {', '.join(changes)}, and a retry must not buy anything else: clear "
        "the task to start a new job, or undo the change"
    )


def _prepare(
    files: Files,
    submission: Submission,
    definition: dict[str, str],
    make: Callable[[], Source],
    replaced: Job | None = None,
) -> Job:
    name, items, recipe = make()
    with files.create(REQUESTS) as requests, files.create(ROWS) as rows:
        prepared = prepare(items, recipe, requests, rows, name=name)
    job = _job(prepared, submission, definition)
    other = _other_job(files, replaced)
    if other is None:
        files.publish(REQUESTS)
        if prepared.has_rows:
            files.publish(ROWS)
        other = _other_job(files, replaced)
    if other is None:
        # The job comes last: where it is, its requests are.
        files.publish_json(JOB, job)
        creation.wait_for_list()
        other = _other_job(files, job)
    if other is None:
        files.restore(REQUESTS, ROWS)
    else:
        changes = _changes(files, other, submission, definition)
        if changes:
            raise _refusal(files, changes)
        log.warning("another attempt of this task has prepared the job at the same time: it is taken over")
        for each in (REQUESTS, ROWS):
            files.discard(each)
        return other
    log.info("%d requests of %s, parts: %d, in %s", job.requests, name, len(prepared.parts), files.url(REQUESTS))
    return job


def _other_job(files: Files, known: Job | None) -> Job | None:
    """Return the job that another attempt of this task has written meanwhile, if any has."""
    files.discard(JOB)
    there = files.read_json(JOB, Job)
    return there if there is not None and (known is None or there.id != known.id) else None


def _job(prepared: Prepared, submission: Submission, definition: dict[str, str]) -> Job:
    return Job(
        key=submission.key,
        task=submission.label,
        definition=definition,
        requests=prepared.requests,
        has_rows=prepared.has_rows,
        first_round=Round(1, prepared.parts, submission.max_tries, clock.now().int_timestamp),
    )


def _log_continuation(job: Job) -> None:
    log.info(
        "going on with the job of %s UTC: %d requests, parts: %d; its source is not read again",
        pendulum.from_timestamp(job.first_round.planned_at).to_datetime_string(),
        job.requests, len(job.first_round.parts),
    )  # fmt: skip


def _check_nothing_was_submitted(client: SiliconFlowClient, files: Files, submission: Submission) -> None:
    found = _own_batches(client, files, submission)
    lost = [each.id for each in found.batches if runs_or_has_answered(each)]
    if lost:
        raise JobFilesError(
            f"{files.url(JOB)} is gone, but {len(lost):,} batches of this task instance run or have answered "
            f"({', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}): put the job's files back, or buy everything "
            "again with another submission_key"
        )
    if found.error is not None:
        raise found.error


def _own_batches(client: SiliconFlowClient, files: Files, submission: Submission) -> OwnBatches:
    return BatchFinder(client, submission, FileRecords(files), may_be_ours=may_be_of_job).look()


def _warn_of_running_batches(found: OwnBatches, changes: list[str]) -> None:
    if found.error is not None:
        log.warning("could not list all batches of the job before: %s", found.error)
    for each in found.batches:
        if not each.is_terminal:
            log.warning(
                "batch %s (%s) of the job before runs on and is billed, while a new one with another %s begins; to "
                "cancel it: client.cancel_batch(%r)",
                each.id, each.status, ", ".join(changes), each.id,
            )  # fmt: skip
