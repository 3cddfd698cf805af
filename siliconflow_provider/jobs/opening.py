"""Load the job of a task, or create a new one."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, NamedTuple

import pendulum
from msgspec import UNSET, structs

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.durations import completion_window_text
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
from siliconflow_provider.inputs import PreparedSource, RequestBuilder, prepare
from siliconflow_provider.job_directory import (
    JOB,
    REJECTED,
    REQUESTS,
    ROWS,
    JobDirectory,
    JobFilesError,
    job_file_name,
)
from siliconflow_provider.jobs.batch_checks import may_be_billed, may_belong_to_job
from siliconflow_provider.jobs.costs import CostSettings
from siliconflow_provider.jobs.estimates import with_estimate
from siliconflow_provider.jobs.job import (
    BAD_ITEMS,
    CONNECTION,
    Inherited,
    Job,
    Round,
    describe_changes,
    fingerprint,
)
from siliconflow_provider.jobs.job_publication import own_files, publish_job
from siliconflow_provider.jobs.reduction import NO_REUSE, ReuseSettings, reduce_requests
from siliconflow_provider.jobs.replacement import ReplacedJob, hand_over, inherit, warn_of_running
from siliconflow_provider.jobs.run_states import Settings
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.outputs import JSON_LINES, OutputConflictError, OutputDirectory, OutputFormat
from siliconflow_provider.wording import counted

SHOWN_REASONS = 3

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """The items of a new job, and how they become requests.

    :param name: for messages
    :param skips_bad_items: True if items that cannot be sent become rejected rows; otherwise they are an error
    """

    name: str
    items: Iterable[Any]
    builder: RequestBuilder
    skips_bad_items: bool = False


def load_or_create_job(
    client: SiliconFlowClient,
    files: JobDirectory,
    submission: Submission,
    definition: Mapping[str, str],
    load_source: Callable[[], Source],
    reuse: ReuseSettings = NO_REUSE,
    costs: CostSettings | None = None,
    output_format: OutputFormat = JSON_LINES,
    after_wait: bool = False,
) -> Job:
    """Return the job of this task instance.

    An existing job is returned even if its definition differs, unless a person has cleared the task since. Then its
    results are published, and a new job reuses its answers to requests that are still the same.

    :param submission: the submission of any part
    :param definition: hashes of the task's arguments, by name
    :param load_source: returns the source; called only for a new job
    :param reuse: says which requests of a new job need not be sent
    :param costs: for the estimate of a new job
    :param output_format: the form in which results are published, also those of a job that is replaced
    :param after_wait: True if this attempt has already waited for the job's batches, which is no news for the log
    :raises OutputConflictError: if the directory belongs to another task, or has results that this task did not write
    :raises JobFilesError: if the files of a job that has batches are missing
    :raises ReuseError: if a directory of `reuse_from` cannot be used
    """
    job = files.read_json(JOB, Job)
    if job is not None:
        _check_owner(files, job, submission)
    # A new job claims the directory only after its source has been checked.
    output = OutputDirectory(files, submission.label, output_format.results)
    (output.check_claim if job is None else output.claim)(is_ours=job is not None)
    job = _read_settled_job(files)
    if job is None:
        found = _check_nothing_was_submitted(client, files, submission)
        return _create(files, output, submission, definition, load_source, reuse, found=found, costs=costs)
    changes = _changes(files, job, submission, definition)
    if not changes:
        if not after_wait:
            _log_resumed(job)
        return job
    settings = Settings(submission, 0, reuse.validate, definition, output_format=output_format)
    with closing(JobRunner.load(client, files, job, settings)) as runner:
        if not runner.is_cleared:
            log.warning(
                "%s changed since the job was created: its batches are collected, but nothing more is submitted",
                ", ".join(changes),
            )
            return job
        if CONNECTION in changes:
            log.warning(
                "the connection leads to another service than that of the previous job, now %s: none of the previous "
                "job's answers is reused, and its batches that still run are not collected",
                reuse.service,
            )
        keeps_answers = "submission_key" not in changes
        handover = hand_over(runner, keeps_answers=keeps_answers, service=definition.get(CONNECTION))
        replaced = ReplacedJob(job, changes, handover)
        warn_of_running(replaced.handover.running, changes)
        return _create(files, output, submission, definition, load_source, reuse, replaced, costs=costs)


def _read_settled_job(files: JobDirectory) -> Job | None:
    """Return the existing job, after no concurrent attempt can replace it any more."""
    job = files.read_json(JOB, Job)
    if job is None or has_list_caught_up(job.first_round.planned_at):
        return job
    wait_for_list()
    files.discard(JOB)
    return files.read_json(JOB, Job)


def _changes(files: JobDirectory, job: Job, submission: Submission, definition: Mapping[str, str]) -> list[str]:
    """Return the names of the arguments that differ from those of the existing job."""
    _check_owner(files, job, submission)
    return job.changes(submission.keys, definition)


def _check_owner(files: JobDirectory, job: Job, submission: Submission) -> None:
    if job.key not in submission.keys and job.task != submission.label:
        raise OutputConflictError(
            f"{files.url(JOB)} is the job of another task instance ({cut(job.task, LONGEST_ERROR)}): give each its own "
            "output_path, such as one with {{ run_id }}, and {{ ti.map_index }} if the task is mapped"
        )


def _create(
    files: JobDirectory,
    output: OutputDirectory,
    submission: Submission,
    definition: Mapping[str, str],
    load_source: Callable[[], Source],
    reuse: ReuseSettings,
    replaced: ReplacedJob | None = None,
    found: FoundBatches | None = None,
    costs: CostSettings | None = None,
) -> Job:
    """Read the source, write and publish the files of a new job, and return it.

    Return the job of a concurrent attempt instead if it was published first.
    """
    source = load_source()
    # The previous job's files stay until this job is published, since a concurrent attempt may still resume it.
    # Concurrent attempts may find different answers to reuse, so each has files of its own.
    directory = "" if replaced is None and not reuse.has_reused_rows else uuid.uuid4().hex
    prepared = _write_requests(files, directory, source)
    if found is not None:
        found.check_none_unidentified([replace(submission, content_sha256=part.sha256) for part in prepared.parts])
    job = _job(prepared, submission, definition, directory)
    if replaced is None:
        job = reduce_requests(files, _with_recorded_batches(files, job, submission), reuse).job
    else:
        job = inherit(files, job, submission, reuse, replaced)
    names = own_files(job)
    job = with_estimate(files, job, names[-1] if job.first_round.indexes else names[0], costs or CostSettings())
    output.claim(is_ours=False)
    other = publish_job(files, job, names, known=None if replaced is None else replaced.job)
    if other is not None:
        return _resume_other(files, other, names, submission, definition)
    log.info(
        "prepared %s in %s: %s, from %s",
        _shown_requests(job.sent, prepared.requests), counted(len(job.first_round.parts), "part"), files.url(names[0]),
        source.name,
    )  # fmt: skip
    if job.rejected:
        log.warning(
            "%s: skipping %s of %s, which cannot be sent and get a row of status rejected: %s",
            source.name, f"{len(job.rejected):,}", counted(job.requests, "item"),
            "; ".join(prepared.reasons[:SHOWN_REASONS]),
        )  # fmt: skip
    return job


def _shown_requests(sent: int, requests: int) -> str:
    return f"{sent:,} of {counted(requests, 'request')}" if sent < requests else counted(requests, "request")


def _write_requests(files: JobDirectory, directory: str, source: Source) -> PreparedSource:
    names = [job_file_name(name, directory) for name in (REQUESTS, ROWS, REJECTED)]
    with ExitStack() as stack:
        requests, rows, rejected = (stack.enter_context(files.create(name)) for name in names)
        return prepare(
            source.items, source.builder, requests, rows,
            name=source.name, rejected=rejected if source.skips_bad_items else None,
        )  # fmt: skip


def _job(prepared: PreparedSource, submission: Submission, definition: Mapping[str, str], directory: str) -> Job:
    first_round = Round(1, prepared.parts, submission.max_tries, clock.now().int_timestamp)
    if prepared.rejected:
        first_round = structs.replace(first_round, rejected=list(prepared.rejected))
        definition = {**definition, BAD_ITEMS: fingerprint("skip")}
    return Job(
        key=submission.key,
        task=submission.label,
        definition=dict(definition),
        requests=prepared.requests + len(prepared.rejected),
        has_rows=prepared.has_rows,
        first_round=first_round,
        completion_window=completion_window_text(submission.completion_window),
        directory=directory,
        model=prepared.model or UNSET,
        input_schema=UNSET if prepared.schema is None else prepared.schema,
    )


def _with_recorded_batches(files: JobDirectory, job: Job, submission: Submission) -> Job:
    """Return the job with the batches that the task created in this directory with another `submission_key`."""
    others = [
        record.batch_id
        for record in FileRecords(files).read()
        if record.batch_id and record.metadata.get(AIRFLOW_KEY) not in submission.keys
    ]
    return structs.replace(job, inherited=Inherited(others=others)) if others else job


def _resume_other(
    files: JobDirectory, other: Job, names: Sequence[str], submission: Submission, definition: Mapping[str, str]
) -> Job:
    """Return the job of a concurrent attempt; remove the local files of the own one.

    :raises JobFilesError: if the other job's definition differs
    """
    changes = _changes(files, other, submission, definition)
    if changes:
        raise JobFilesError(*describe_changes(files.url(JOB), changes))
    log.warning("resuming the job that another attempt of this task prepared at the same time")
    for name in names:
        files.discard(name)
    return other


def _log_resumed(job: Job) -> None:
    log.info(
        "resuming the job of %s UTC (%s, %s); its source is not read again",
        pendulum.from_timestamp(job.first_round.planned_at).to_datetime_string(),
        counted(job.requests - len(job.rejected), "request"), counted(len(job.first_round.parts), "part"),
    )  # fmt: skip


def _check_nothing_was_submitted(
    client: SiliconFlowClient, files: JobDirectory, submission: Submission
) -> FoundBatches:
    finder = BatchFinder(client, submission, FileRecords(files), may_be_ours=may_belong_to_job)
    found = finder.find_and_record()
    billed = [batch.id for batch in found.batches if may_be_billed(batch)]
    if billed:
        raise JobFilesError(
            f"{files.url(JOB)} is missing, but this task has {counted(len(billed), 'active or completed batch')} "
            f"({first_names(billed, 3)})",
            "Restore the job's files, or set a new submission_key to resubmit everything",
        )
    if found.error is not None:
        raise found.error
    return found
