"""Tell what the batches of a job have cost: from their results, which are counted once and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec
from msgspec import structs

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.recovery import GIVE_UP_AFTER
from siliconflow_provider.inputs import Part
from siliconflow_provider.job_directory import JobDirectory, job_file_name, usage_name
from siliconflow_provider.jobs.costs import CostSettings
from siliconflow_provider.jobs.job import Job, Round
from siliconflow_provider.jobs.job_batches import JobBatches
from siliconflow_provider.jobs.publication import EarlierResults
from siliconflow_provider.jobs.request_files import RequestFiles
from siliconflow_provider.jobs.round_retrieval import RoundRetrieval, Tolerance
from siliconflow_provider.outputs import ResultStore, Usage

_REMEDY = "its cost is unknown, and nothing more was submitted; a retry reads it again"


class BatchUsage(msgspec.Struct, frozen=True):
    """The tokens of a batch, as they are written down.

    :param is_known: False if results are lost
    """

    batch_id: str
    usage: Usage
    is_known: bool


class Spending:
    """The cost of a job's batches.

    :param published: returns the published results
    """

    def __init__(
        self,
        client: SiliconFlowClient,
        files: JobDirectory,
        job: Job,
        requests: RequestFiles,
        batches: JobBatches,
        published: Callable[[], EarlierResults],
    ) -> None:
        self._client = client
        self._files = files
        self._job = job
        self._requests = requests
        self._batches = batches
        self._published = published

    def check(self, costs: CostSettings, rounds: Sequence[Round], parts: Sequence[Part]) -> None:
        """Check that the job stays below `max_cost` if these parts of the newest round are submitted.

        :raises CostLimitError: if it may cost more
        :raises SiliconFlowError: if the results of a batch that is over could not be read
        """
        spent, uncertain = Decimal(0), list(parts)
        price = costs.price_of(self._job.model or None)
        for round_ in rounds:
            for part in round_.parts:
                batch = self._batches.batch_of_part(round_, part)
                if batch is not None and not batch.is_terminal and round_ is rounds[-1]:
                    uncertain.append(part)
                elif price is not None:
                    spent += self._cost_of(costs, round_, part, price.cost_of)
        bound = costs.estimate(self._requests.path(rounds[-1]), uncertain, self._job.model or None)
        costs.check(spent, bound)

    def _cost_of(self, costs: CostSettings, round_: Round, part: Part, cost_of: Callable[[Usage], Decimal]) -> Decimal:
        """Return the cost of a part, the most that it can cost if its results are lost, or 0 if it has no batch."""
        report = self._published().reports.get((round_.number, part.sha256))
        batch = self._batches.batch_of_part(round_, part)
        if batch is None:
            return Decimal(0) if report is None else cost_of(Usage(**report.get("tokens", {})))
        name = job_file_name(usage_name(round_.number, part.sha256), self._job.directory)
        known = self._files.read_json(name, BatchUsage)
        if known is None or known.batch_id != batch.id:
            known = self._count(round_, part)
            self._files.publish_json(name, known)
        if known.is_known:
            return cost_of(known.usage)
        most = costs.estimate(self._requests.path(round_), [part], self._job.model or None).most_cost
        return max(most or Decimal(0), cost_of(known.usage))

    def _count(self, round_: Round, part: Part) -> BatchUsage:
        with self._files.create("counted") as rows:
            results = ResultStore(self._job.requests, rows)
            retrieval = RoundRetrieval(
                self._client, self._files, self._requests, self._batches, results,
                structs.replace(round_, parts=[part]), (), self._job.requests, lambda round_, part: None,
                Tolerance(GIVE_UP_AFTER, accepts_incomplete=False, accepts_lost=True, remedy=_REMEDY),
            )  # fmt: skip
            retrieval.run()
        self._files.discard("counted")
        for error in retrieval.failures.values():
            raise error
        batch = self._batches.batch_of_part(round_, part)
        batch_id = "" if batch is None else batch.id
        return BatchUsage(batch_id, results.usage_of(batch_id), is_known=not retrieval.is_any_lost)
