"""A job taken up: the one that is there continued, or a new one prepared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.preparation import prepare
from siliconflow_provider.jobs.recipe import Recipe
from siliconflow_provider.jobs.runner import JOB, REQUESTS, ROWS, Files, JobFilesError, Settings
from siliconflow_provider.jobs.submission import batches_of_key

log = logging.getLogger(__name__)

Source = Callable[[], Iterable[Any]]


def open_job(
    client: SiliconFlowClient,
    files: Files,
    settings: Settings,
    definition: dict[str, str],
    make: Callable[[], tuple[str, Iterable[Any], Recipe]],
) -> Job:
    """Return the job of this task instance.

    :param definition: hashes of what the task asks for, by their name
    :param make: gives the source's name, its items and what is filled in; called for a new job only
    :raises JobFilesError: when the files are another job's, or those of one that has batches are gone
    """
    job = files.read_json(JOB, Job)
    if job is None:
        _check_nothing_was_submitted(client, files, settings)
    elif job.key != settings.submission.key:
        raise JobFilesError(
            f"{files.url(JOB)} is the job of another task instance ({job.task}): give each its own output_path, such "
            "as one with {{ run_id }}, and {{ ti.map_index }} where the task is mapped"
        )
    else:
        changes = job.changes(definition)
        if not changes:
            log.info(
                "going on with the job of %s UTC: %d requests in %d parts; its source is not read again",
                pendulum.from_timestamp(job.created_at).to_datetime_string(), job.requests, len(job.first_round.parts),
            )  # fmt: skip
            return job
        if settings.submission.max_tries <= job.first_round.max_tries:
            raise JobFilesError(
                f"{files.url(JOB)} was made with another {', '.join(changes)}, and a retry must not buy anything "
                "else: clear the task to start a new job, or undo the change"
            )
        _warn_of_running_batches(client, settings, changes)
    return _prepare(files, settings, definition, *make())


def _prepare(
    files: Files, settings: Settings, definition: dict[str, str], name: str, items: Iterable[Any], recipe: Recipe
) -> Job:
    submission = settings.submission
    with files.create(REQUESTS) as requests, files.create(ROWS) as rows:
        prepared = prepare(items, recipe, requests, rows, name=name, **(settings.part_limits or {}))
    job = Job(
        key=submission.key,
        task=submission.label,
        definition=definition,
        created_at=clock.now().int_timestamp,
        requests=prepared.requests,
        has_rows=prepared.has_rows,
        first_round=Round(1, prepared.parts, submission.max_tries),
    )
    files.publish(REQUESTS)
    if prepared.has_rows:
        files.publish(ROWS)
    # The job comes last: where it is, its requests are.
    files.publish_json(JOB, job)
    log.info("%d requests of %s in %d parts, in %s", job.requests, name, len(prepared.parts), files.url(REQUESTS))
    return job


def _check_nothing_was_submitted(client: SiliconFlowClient, files: Files, settings: Settings) -> None:
    lost = [
        each.id
        for each in batches_of_key(client, settings.submission)
        if not each.is_terminal or (each.request_counts is not None and each.request_counts.completed)
    ]
    if lost:
        raise JobFilesError(
            f"{files.url(JOB)} is gone, but {len(lost):,} batches of this task instance run or have answered "
            f"({', '.join(lost[:3])}, ...): put the job's files back, or buy everything again with another "
            "submission_key"
        )


def _warn_of_running_batches(client: SiliconFlowClient, settings: Settings, changes: list[str]) -> None:
    for each in batches_of_key(client, settings.submission):
        if not each.is_terminal:
            log.warning(
                "batch %s (%s) of the job before runs on and is billed, while a new one with another %s begins; to "
                "cancel it: client.cancel_batch(%r)",
                each.id, each.status, ", ".join(changes), each.id,
            )  # fmt: skip
