"""A job as one attempt works on it: with its files, its rounds and its batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import FileRecords, Submission
from siliconflow_provider.job_directory import JobDirectory, job_file_name
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.publication import BatchOfPart
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.jobs.round_limits import RoundLimits
from siliconflow_provider.jobs.round_plans import RoundPlans
from siliconflow_provider.jobs.run_states import Settings


@dataclass(frozen=True)
class OpenJob:
    """A job with its files, rounds and batches; create it with `load`.

    :param submission: the submission of any part
    :param rounds: all planned rounds, the oldest first; a further one is appended
    """

    client: SiliconFlowClient
    files: JobDirectory
    job: Job
    submission: Submission
    requests: RequestFiles
    plans: RoundPlans
    batches: JobBatches
    rounds: list[Round]

    @classmethod
    def load(
        cls, client: SiliconFlowClient, files: JobDirectory, job: Job, settings: Settings, ended: Iterable[Batch]
    ) -> Self:
        """Return a job with its planned rounds. Its batches are not searched yet.

        :param ended: batches that a wait has seen end
        """
        window = job.completion_window or settings.submission.completion_window
        submission = replace(settings.submission, key=job.key, completion_window=window)
        requests = RequestFiles(files, job.directory)
        plans = RoundPlans(files, job, requests)
        batches = JobBatches(client, submission, FileRecords(files), ended, job.inherited, settings.announce)
        return cls(client, files, job, submission, requests, plans, batches, list(plans.rounds()))

    def file_name(self, name: str) -> str:
        """Return the name of one of the job's own files, below the directory of all jobs' files."""
        return job_file_name(name, self.job.directory)

    @property
    def limits(self) -> RoundLimits:
        """The limits of the job's rounds."""
        return RoundLimits(self.rounds, self.batches, self.submission)

    @property
    def has_batches(self) -> bool:
        """True if any part of the job has a batch."""
        return any(map(self.batches.batches_of_round, self.rounds))

    def batches_of_parts(self) -> list[BatchOfPart]:
        """Return the job's batches at the service, each with its round and part."""
        return [
            (round_, part, batch)
            for round_ in self.rounds
            for part in round_.parts
            if (batch := self.batches.batch_of_part(round_, part)) is not None
        ]
