"""Tell what the batches of a job have cost: from their results, which are counted once and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import structs

from siliconflow_provider.api.recovery import GIVE_UP_AFTER
from siliconflow_provider.inputs import Part, lines_at
from siliconflow_provider.job_directory import usage_name
from siliconflow_provider.jobs.costs import CostSettings, check_balance
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.job_results import JobResults
from siliconflow_provider.jobs.open_job import OpenJob
from siliconflow_provider.jobs.round_retrieval import RoundRetrieval, Tolerance
from siliconflow_provider.outputs import ResultStore, Usage, bill_of_batches, lacks_usage

_REMEDY = "its cost is unknown, and nothing more was submitted; a retry reads it again"


class BatchUsage(msgspec.Struct, frozen=True):
    """The tokens of a batch that is over, as they are written down.

    :param without_usage: positions in the part of the answers whose tokens the service does not report
    :param is_known: False if results are lost
    """

    batch_id: str
    usage: Usage
    is_known: bool
    without_usage: list[int] = []


class Spending:
    """The cost of a job's batches."""

    def __init__(self, opened: OpenJob, results: JobResults, costs: CostSettings) -> None:
        self._opened = opened
        self._batches = opened.batches
        self._results = results
        self._costs = costs
        self._model = opened.job.model or None
        self._price = costs.price_of(self._model)

    def check_balance(self) -> None:
        """Check that the account can pay for a batch, before the first one is submitted; see `check_balance`."""
        estimate = self._opened.job.estimate
        bound = None if not estimate else estimate["most_cost"]
        check_balance(self._opened.client, None if bound is None else Decimal(bound))

    def bill_of_attempt(self, manifest: dict[str, Any]) -> dict[str, Any] | None:
        """Return tokens and cost of the batches that this attempt has created, also before it was deferred.

        :return: None if this attempt, or the one that created a batch, is unknown
        """
        reports, attempts, attempt = manifest["batches"], self._batches.attempts, self._opened.submission.attempt
        if attempt is None or any(report["id"] not in attempts for report in reports):
            return None
        own = [report for report in reports if attempts[report["id"]] == attempt]
        return {"batches": [report["id"] for report in own], **bill_of_batches(own, self._price)}

    def check(self, parts: Sequence[Part]) -> None:
        """Check that the job stays below `max_cost` if these parts of the newest round are submitted.

        :raises CostLimitError: if it may cost more
        :raises SiliconFlowError: if the results of a batch that is over could not be read
        """
        if self._costs.max_cost is None:
            return
        spent, uncertain = Decimal(0), list(parts)
        rounds = self._opened.rounds
        for round_ in rounds:
            for part in round_.parts:
                batch = self._batches.batch_of_part(round_, part)
                if batch is not None and not batch.is_terminal and round_ is rounds[-1]:
                    uncertain.append(part)
                elif self._price is not None:
                    spent += self._cost_of(round_, part, self._price.cost_of)
        bound = self._costs.estimate(self._opened.requests.path(rounds[-1]), uncertain, self._model)
        self._costs.check(spent, bound)

    def _cost_of(self, round_: Round, part: Part, cost_of: Callable[[Usage], Decimal]) -> Decimal:
        """Return the cost of a part, 0 if it has no batch. Unknown amounts count as the most that they can be."""
        report = self._results.published.reports.get((round_.number, part.sha256))
        batch = self._batches.batch_of_part(round_, part)
        if batch is None and report is None:
            return Decimal(0)
        if batch is None and report is not None:
            usage = Usage(**report.get("tokens", {}))
            return cost_of(usage) + (self._most_cost(round_, part) if usage.unknown else 0)
        # An older round can be shown as running by a list that is not up to date.
        known = self._known_usage(round_, part) if batch is not None and batch.is_terminal else None
        if known is None or not known.is_known:
            return max(self._most_cost(round_, part), Decimal(0) if known is None else cost_of(known.usage))
        if known.without_usage:
            return cost_of(known.usage) + self._most_cost(round_, part, known.without_usage)
        return cost_of(known.usage)

    def _most_cost(self, round_: Round, part: Part, positions: Sequence[int] | None = None) -> Decimal:
        """Return the most that a part can cost, or the requests at some of its positions.

        :raises CostLimitError: if nothing limits it
        """
        path = self._opened.requests.path(round_)
        if positions is None:
            estimate = self._costs.estimate(path, [part], self._model)
        else:
            lines = lines_at(path, (part.first + position for position in positions))
            estimate = self._costs.estimate_lines(lines, self._model)
        self._costs.check(Decimal(0), estimate)
        return estimate.most_cost or Decimal(0)

    def _known_usage(self, round_: Round, part: Part) -> BatchUsage:
        name = self._opened.file_name(usage_name(round_.number, part.sha256))
        batch = self._batches.batch_of_part(round_, part)
        known = self._opened.files.read_json(name, BatchUsage)
        if known is None or batch is None or known.batch_id != batch.id:
            known = self._count(round_, part)
            self._opened.files.publish_json(name, known)
        return known

    def _count(self, round_: Round, part: Part) -> BatchUsage:
        opened = self._opened
        with opened.files.create("counted") as rows:
            results = ResultStore(opened.job.requests, rows)
            retrieval = RoundRetrieval(
                opened.client, opened.files, opened.requests, self._batches, results,
                structs.replace(round_, parts=[part]), (), opened.job.requests, lambda round_, part: None,
                Tolerance(GIVE_UP_AFTER, accepts_incomplete=False, accepts_lost=True, remedy=_REMEDY),
            )  # fmt: skip
            retrieval.run()
            for error in retrieval.failures.values():
                raise error
            batch = self._batches.batch_of_part(round_, part)
            batch_id = "" if batch is None else batch.id
            usage = results.usage_of(batch_id)
            indexes = round_.indexes_of(part) if usage.unknown else ()
            without = [position for position, index in enumerate(indexes) if lacks_usage(results.row(index))]
        opened.files.discard("counted")
        return BatchUsage(batch_id, usage, not retrieval.is_any_lost, without)
