"""Estimate a new job from the requests that it sends and from the answers that it reuses."""

from __future__ import annotations

import logging
from decimal import Decimal

import msgspec
from msgspec import structs

from siliconflow_provider.job_directory import KEPT, JobDirectory, job_file_name
from siliconflow_provider.jobs.costs import CostSettings, describe_estimate
from siliconflow_provider.jobs.job import Job

log = logging.getLogger(__name__)


class _ReusedRow(msgspec.Struct):
    completion_tokens: int | None = None


def with_estimate(files: JobDirectory, job: Job, requests_name: str, costs: CostSettings) -> Job:
    """Return a new job with the estimate for the requests that it sends, and log it.

    :param requests_name: of the file with these requests
    """
    path = files.fetch(requests_name)
    if path is None:
        return job
    model = job.model or None
    estimate = costs.estimate(path, job.first_round.parts, model, _mean_completion_tokens(files, job))
    has_price = costs.prices is None or costs.prices.why_no_price(model) is None
    log.log(logging.INFO if has_price else logging.WARNING, "%s", describe_estimate(estimate, costs))
    return structs.replace(job, estimate=estimate.to_json())


def _mean_completion_tokens(files: JobDirectory, job: Job) -> Decimal | None:
    """Return the mean length of the answers that the job reuses, or None if it reuses none."""
    if job.inherited is None or not job.inherited.rows:
        return None
    path = files.fetch(job_file_name(KEPT, job.directory))
    if path is None:
        return None
    total = count = 0
    decode = msgspec.json.Decoder(_ReusedRow).decode
    with path.open("rb") as rows:
        for row in map(decode, rows):
            if row.completion_tokens is not None:
                total += row.completion_tokens
                count += 1
    return Decimal(total) / count if count else None
