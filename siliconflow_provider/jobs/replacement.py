"""Replace a job by a new one: publish the old job's results, and reuse its answers to equal requests."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import Submission
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import RESULT_ROWS, JobDirectory, result_rows_name
from siliconflow_provider.jobs.job import Inherited, Job
from siliconflow_provider.jobs.reduction import PreviousAnswers, ReuseSettings, reduce_requests
from siliconflow_provider.jobs.replaced_jobs import answers_of_replaced_jobs, keep_job_file
from siliconflow_provider.jobs.request_files import RequestsLostError
from siliconflow_provider.jobs.reuse import EarlierAnswers
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.wording import command_line, counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Handover:
    """State that a job passes to the job that replaces it.

    :param answers: its answers; None if there are none, or a person wants all requests submitted again
    :param older: the answers of the jobs before it, the latest first
    :param running: batches of the task that are not over
    """

    inherited: Inherited
    answers: EarlierAnswers | None
    older: Iterable[EarlierAnswers]
    running: list[Batch]


@dataclass(frozen=True)
class ReplacedJob:
    """A job that a cleared task replaces.

    :param changes: names of the task's arguments that changed
    """

    job: Job
    changes: list[str]
    handover: Handover


def hand_over(runner: JobRunner, *, keeps_answers: bool, service: str | None) -> Handover:
    """Publish the answers of a job that is being replaced, and return the state that the new job inherits.

    :param keeps_answers: True if the new job reuses answers
    :param service: the new job's, as in its definition; answers of another one are not reused
    :raises RequestsLostError: if answers are to be reused, but the job's requests are lost
    """
    runner.job_batches.check_batches_known(runner.rounds)
    own = [batch for round_ in runner.rounds for batch in runner.job_batches.batches_of_round(round_).values()]
    answers = None
    keeps_newest = keeps_answers and runner.job.service == service
    try:
        if own:
            runner.finish(complete=all(batch.is_terminal for batch in own), is_replaced=True)
        published = runner.results.published.manifest
        results = runner.files.fetch(result_rows_name(published)) if published else None
        if results is None and published.get("output_format", "jsonl") != "jsonl":
            lost = runner.files.url(RESULT_ROWS)
            raise RequestsLostError(f"{lost} is missing; restore it: it has the answers so far")
        if keeps_newest and results is not None:
            answers = EarlierAnswers(runner.opened.requests.path(runner.job.all_requests), results)
    except RequestsLostError as error:
        if keeps_newest:
            raise
        log.warning("the previous job's answers are not published: %s", error)
    runner.close()
    keep_job_file(runner.files, runner.job)
    older = answers_of_replaced_jobs(runner.files, runner.job, service) if keeps_answers else ()
    running = [batch for batch in (*own, *runner.job_batches.find_other_running_batches()) if not batch.is_terminal]
    inherited = Inherited(collected=runner.job_batches.collected, others=runner.job_batches.others)
    return Handover(inherited, answers, older, running)


def inherit(
    files: JobDirectory, job: Job, submission: Submission, settings: ReuseSettings, replaced: ReplacedJob
) -> Job:
    """Return the new job with the answers of the replaced one. It sends only the other requests."""

    def is_running(part: Part) -> bool:
        sent = replace(submission, content_sha256=part.sha256, round=1)
        return any(map(sent.matches, replaced.handover.running))

    job = structs.replace(job, inherited=replaced.handover.inherited)
    earlier = PreviousAnswers(replaced.handover.answers, replaced.handover.older)
    reduced = reduce_requests(files, job, settings, earlier, is_running)
    log.info(
        "starting a new job, since %s changed: reusing %s of previous jobs, sending %s, dropping %s that no request "
        "needs any more",
        ", ".join(replaced.changes), counted(reduced.kept, "answer"), counted(reduced.job.sent, "request"),
        counted(reduced.dropped, "answer"),
    )  # fmt: skip
    return reduced.job


def warn_of_running(running: Sequence[Batch], changes: Sequence[str]) -> None:
    """Warn of each batch of the replaced job that is still billed."""
    for batch in running:
        log.warning(
            "the previous job's batch %s (%s) is still running and billed; a new job was started because %s changed.\n"
            "To cancel: %s",
            batch.id, batch.status, ", ".join(changes), command_line("cancel", [batch.id]),
        )  # fmt: skip
