"""Read and write the rounds of a job: a file of requests for each, then a file with its plan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from siliconflow_provider.api import clock
from siliconflow_provider.inputs import PartWriter, line_of_position, lines_at
from siliconflow_provider.job_directory import JobDirectory, job_file_name, plan_name, requests_name
from siliconflow_provider.jobs.corrections import with_correction
from siliconflow_provider.jobs.job import Job, PlannedRound, Round
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.jobs.round_reasons import count_reasons, describe_reasons
from siliconflow_provider.outputs import ResultStore
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)

# The plan and the manifest have the most frequent ones.
REPORTED_REASONS = 10


class RoundPlans:
    """Read and write the plans of a job's later rounds.

    :param requests: returns the file of all requests
    """

    def __init__(self, files: JobDirectory, job: Job, requests: RequestFiles) -> None:
        self._files = files
        self._job = job
        self._requests = requests

    def rounds(self) -> Iterator[Round]:
        """Yield the planned rounds, the first one first."""
        planned: Round | None = self._job.first_round
        while planned is not None:
            yield planned
            planned = self._read(planned.number + 1)

    def find_planned(self, number: int) -> Round | None:
        """Return a round if another attempt has planned it since this one started, or None."""
        self._files.discard(self._job_file(plan_name(number)))
        return self._read(number)

    def write(self, number: int, indexes: Sequence[int], max_tries: int, results: ResultStore) -> Round:
        """Write a round of these requests of the job, and return it.

        A request whose answer was not of the output type is sent with that answer, so that the model can correct it.

        :param results: the newest row of each request
        """
        name = self._job_file(requests_name(number))
        with self._files.create(name) as file:
            writer = PartWriter(file)
            numbers = (line_of_position(index, self._job.rejected) for index in indexes)
            lines = lines_at(self._requests.path(self._job.all_requests), numbers)
            for line, index in zip(lines, indexes, strict=True):
                writer.write(with_correction(line, results.row(index)))
            parts = writer.finish()
        reasons = count_reasons(results, indexes)
        planned = Round(number, parts, max_tries, clock.now().int_timestamp, list(indexes), reasons[:REPORTED_REASONS])
        self._files.publish(name)
        # The plan comes last: once it exists, its requests exist too.
        self._files.publish_json(self._job_file(plan_name(number)), PlannedRound(self._job.id, planned))
        log.info(
            "round %d: resending %s in %s: %s",
            number, counted(len(indexes), "request"), counted(len(parts), "batch"), describe_reasons(reasons),
        )  # fmt: skip
        return planned

    def _read(self, number: int) -> Round | None:
        planned = self._files.read_json(self._job_file(plan_name(number)), PlannedRound)
        return planned.round if planned is not None and planned.job_id == self._job.id else None

    def _job_file(self, name: str) -> str:
        return job_file_name(name, self._job.directory)
