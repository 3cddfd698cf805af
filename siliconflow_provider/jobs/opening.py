"""A job taken up: the one that is there continued, or a new one prepared."""

from __future__ import annotations

import logging
import uuid
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pendulum
from msgspec import structs

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.durations import completion_window_text
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import LONGEST_ERROR, cut, first_names
from siliconflow_provider.batches import (
    AIRFLOW_KEY,
    BatchFinder,
    FileRecords,
    FoundBatches,
    Submission,
    has_list_caught_up,
    wait_for_list,
)
from siliconflow_provider.inputs import Part, Prepared, RequestBuilder, prepare
from siliconflow_provider.job_directory import JOB, KEPT, REQUESTS, ROWS, Files, JobFilesError, own_name, requests_name
from siliconflow_provider.jobs.job import Job, Kept, Round, describe_changes
from siliconflow_provider.jobs.job_batches import may_be_of_job, runs_or_has_answered
from siliconflow_provider.jobs.reuse import EarlierAnswers, keep_answers, write_rest
from siliconflow_provider.jobs.runner import HandedOver, JobRunner, Settings
from siliconflow_provider.outputs import Output, OutputTakenError, Validate

log = logging.getLogger(__name__)

Source = tuple[str, Iterable[Any], RequestBuilder]


@dataclass(frozen=True)
class _Replaced:
    """The job that a cleared task replaces.

    :param earlier: its answers, None when a person wants everything anew
    """

    job: Job
    changes: list[str]
    earlier: EarlierAnswers | None
    left: HandedOver
    validate: Validate | None


def load_or_create_job(
    client: SiliconFlowClient,
    files: Files,
    submission: Submission,
    definition: Mapping[str, str],
    make: Callable[[], Source],
    validate: Validate | None = None,
) -> Job:
    """Return the job of this task instance.

    That is the one which is there, also where it was defined otherwise, unless a person has cleared the task since:
    then it lands what it has, and a new one begins with its answers to the requests that are still asked.

    :param submission: of any part of it
    :param definition: hashes of what the task asks for, by their name
    :param make: gives the source's name, its items and what is filled in; called for a new job only
    :param validate: what an answer has to pass to be kept
    :raises OutputTakenError: when the directory is another's, or has a file for users that this task has not written
    :raises JobFilesError: when the files of a job that has batches are gone
    """
    job = files.read_json(JOB, Job)
    if job is not None:
        _check_owner(files, job, submission)
    # A new job claims the directory once its source is known to be good.
    output = Output(files, submission.label)
    (output.check if job is None else output.claim)(is_ours=job is not None)
    job = _settled_job(files)
    if job is None:
        seen = _check_nothing_was_submitted(client, files, submission)
        return _prepare(files, submission, definition, make, seen=seen)
    changes = _changes(files, job, submission, definition)
    if not changes:
        _log_continuation(job)
        return job
    with closing(JobRunner.load(client, files, job, Settings(submission, 0, validate, definition))) as runner:
        if not runner.is_cleared:
            log.warning("%s changed since the job was created: it goes on as it was, and buys nothing more", changes)
            return job
        with closing(EarlierAnswers()) as earlier:
            given = None if "submission_key" in changes else earlier
            replaced = _Replaced(job, changes, given, runner.hand_over(given), validate)
            _warn_of(replaced.left.running, changes)
            return _prepare(files, submission, definition, make, replaced)


def _settled_job(files: Files) -> Job | None:
    """Return the job that is there, once no attempt at the same time can replace it any more."""
    job = files.read_json(JOB, Job)
    if job is None or has_list_caught_up(job.first_round.planned_at):
        return job
    wait_for_list()
    files.discard(JOB)
    return files.read_json(JOB, Job)


def _changes(files: Files, job: Job, submission: Submission, definition: Mapping[str, str]) -> list[str]:
    """Return the names of what is asked for otherwise than in the job that is there."""
    _check_owner(files, job, submission)
    return job.changes(submission.keys, definition)


def _check_owner(files: Files, job: Job, submission: Submission) -> None:
    if job.key not in submission.keys and job.task != submission.label:
        raise OutputTakenError(
            f"{files.url(JOB)} is the job of another task instance ({cut(job.task, LONGEST_ERROR)}): give each its own "
            "output_path, such as one with {{ run_id }}, and {{ ti.map_index }} where the task is mapped"
        )


def _prepare(
    files: Files,
    submission: Submission,
    definition: Mapping[str, str],
    make: Callable[[], Source],
    replaced: _Replaced | None = None,
    seen: FoundBatches | None = None,
) -> Job:
    name, items, builder = make()
    # The files of the job before stay until this one is written, and while another attempt goes on with it.
    directory = "" if replaced is None else uuid.uuid4().hex
    requests_file, rows_file = own_name(REQUESTS, directory), own_name(ROWS, directory)
    with files.create(requests_file) as requests, files.create(rows_file) as rows:
        prepared = prepare(items, builder, requests, rows, name=name)
    if seen is not None:
        seen.check_none_unidentified([replace(submission, content_sha256=each.sha256) for each in prepared.parts])
    job = _job(prepared, submission, definition, directory)
    names = [requests_file, *([rows_file] if prepared.has_rows else [])]
    if replaced is None:
        others = _recorded_for_others(files, submission)
        job = structs.replace(job, kept=Kept(others=others)) if others else job
    else:
        job = _with_kept(files, job, submission, replaced)
        if job.kept is not None and job.kept.rows:
            names += [own_name(KEPT, directory), own_name(requests_name(1), directory)]
    Output(files, submission.label).claim(is_ours=False)
    known = None if replaced is None else replaced.job
    other = _other_job(files, known)
    if other is None:
        for each in names:
            files.publish(each)
        other = _other_job(files, known)
    if other is None:
        # The job comes last: where it is, its requests are.
        files.publish_json(JOB, job)
        wait_for_list()
        other = _other_job(files, job)
    if other is None:
        files.restore(*names)
    else:
        changes = _changes(files, other, submission, definition)
        if changes:
            raise JobFilesError(describe_changes(files.url(JOB), changes))
        log.warning("another attempt of this task has prepared the job at the same time: it is taken over")
        for each in names:
            files.discard(each)
        return other
    log.info("%d requests of %s, parts: %d, in %s", job.requests, name, len(job.first_round.parts), files.url(names[0]))
    return job


def _recorded_for_others(files: Files, submission: Submission) -> list[str]:
    """Return ids of batches that the task has created in this directory with another `submission_key`."""
    records = FileRecords(files).read()
    return [
        each.batch_id for each in records if each.batch_id and each.metadata.get(AIRFLOW_KEY) not in submission.keys
    ]


def _with_kept(files: Files, job: Job, submission: Submission, replaced: _Replaced) -> Job:
    """Return a job with the answers of the one that it replaces, which sends the rest."""
    count, given_up = 0, 0
    rests: list[array[int]] = []
    parts, path = job.first_round.parts, files.fetch(own_name(REQUESTS, job.directory))
    if replaced.earlier is not None and replaced.earlier.count and path is not None:
        with files.create(own_name(KEPT, job.directory)) as rows:
            count, rests = keep_answers(replaced.earlier, path, parts, rows, replaced.validate)
        given_up = replaced.earlier.count - count
    log.info(
        "a new job, since %s changed: of %d requests, %d keep the answer of the job before and %d are sent; %d answers "
        "of the job before are given up, as nothing asks for them any more",
        ", ".join(replaced.changes), job.requests, count, job.requests - count, given_up,
    )  # fmt: skip
    if not count or path is None:
        return structs.replace(job, kept=replaced.left.kept)

    def runs(part: Part) -> bool:
        sent = replace(submission, content_sha256=part.sha256, round=1)
        return any(map(sent.matches, replaced.left.running))

    with files.create(own_name(requests_name(1), job.directory)) as file:
        sent, indexes = write_rest(path, parts, rests, file, runs)
    first_round = structs.replace(job.first_round, parts=sent, indexes=indexes)
    kept = structs.replace(replaced.left.kept, rows=count, parts=parts)
    return structs.replace(job, first_round=first_round, kept=kept)


def _warn_of(running: list[Batch], changes: list[str]) -> None:
    for each in running:
        log.warning(
            "batch %s (%s) of the job before runs on and is billed, while a new one with another %s begins; to cancel "
            "it: client.cancel_batch(%r)",
            each.id, each.status, ", ".join(changes), each.id,
        )  # fmt: skip


def _other_job(files: Files, known: Job | None) -> Job | None:
    """Return the job that another attempt of this task has written meanwhile, if any has."""
    files.discard(JOB)
    there = files.read_json(JOB, Job)
    return there if there is not None and (known is None or there.id != known.id) else None


def _job(prepared: Prepared, submission: Submission, definition: Mapping[str, str], directory: str) -> Job:
    return Job(
        key=submission.key,
        task=submission.label,
        definition=dict(definition),
        requests=prepared.requests,
        has_rows=prepared.has_rows,
        first_round=Round(1, prepared.parts, submission.max_tries, clock.now().int_timestamp),
        completion_window=completion_window_text(submission.completion_window),
        directory=directory,
    )


def _log_continuation(job: Job) -> None:
    log.info(
        "going on with the job of %s UTC: %d requests, parts: %d; its source is not read again",
        pendulum.from_timestamp(job.first_round.planned_at).to_datetime_string(),
        job.requests, len(job.first_round.parts),
    )  # fmt: skip


def _check_nothing_was_submitted(client: SiliconFlowClient, files: Files, submission: Submission) -> FoundBatches:
    found = BatchFinder(client, submission, FileRecords(files), may_be_ours=may_be_of_job).find_and_record()
    lost = [each.id for each in found.batches if runs_or_has_answered(each)]
    if lost:
        raise JobFilesError(
            f"{files.url(JOB)} is gone, but {len(lost):,} batches of this task instance run or have answered "
            f"({first_names(lost, 3)}): put the job's files back, or buy everything "
            "again with another submission_key"
        )
    if found.error is not None:
        raise found.error
    return found
