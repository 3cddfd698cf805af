"""Build the manifest that is published beside a job's results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import first_errors
from siliconflow_provider.outputs.result_store import ResultStore
from siliconflow_provider.outputs.usage import Price, Usage

SCHEMA_VERSION = 1


def build_manifest(
    identity: dict[str, Any],
    results: ResultStore,
    batches: Sequence[dict[str, Any]],
    *,
    paths: dict[str, str],
    kept: int,
    reused: int = 0,
    deduplicated: int = 0,
    complete: bool,
    price: Price | None = None,
    resent: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return the manifest of a job.

    Tokens and costs are those of these batches. Those of answers that were reused from another job are in that job's
    manifest, and those of equal requests count once.

    :param identity: identifies the job and its task, and describes the form of its results
    :param batches: the entries of the job's batches; see `report_batch`
    :param paths: the URLs of the job's files, by kind
    :param kept: the number of answers that were reused from the replaced job
    :param reused: the number of answers that were reused from other earlier runs
    :param deduplicated: the number of requests that were not sent because they are equal to another one
    :param complete: True if no batch of the job runs any more
    :param price: None if the job has no prices
    :param resent: for each later round, its number of requests and why they were resent
    """
    return {
        "schema_version": SCHEMA_VERSION,
        **identity,
        "paths": paths,
        "rows": len(results),
        "counts": results.counts(),
        "kept": kept,
        "reused": reused,
        "deduplicated": deduplicated,
        **bill_of_batches(batches, price),
        "finish_reasons": results.finish_reasons(),
        "errors": results.commonest_errors(),
        "duplicates": results.duplicates,
        "unknown_requests": results.unknown_requests,
        "unreadable_lines": results.unreadable_lines,
        "batches": list(batches),
        "rounds": max((report["round"] for report in batches), default=0),
        "resent": list(resent),
        "complete": complete,
    }


def bill_of_batches(reports: Sequence[dict[str, Any]], price: Price | None) -> dict[str, Any]:
    """Return tokens and cost of some of a manifest's batches, as a manifest has those of all."""
    tokens = _usage_of(reports).to_json()
    return {"tokens": tokens} if price is None else {"tokens": tokens, "cost": _costs(reports, price)}


def _usage_of(reports: Iterable[dict[str, Any]]) -> Usage:
    return Usage.sum(Usage(**report["tokens"]) for report in reports)


def _costs(reports: Sequence[dict[str, Any]], price: Price) -> dict[str, Any]:
    """Return the cost of the job and of each round."""
    rounds: dict[int, list[dict[str, Any]]] = {}
    for report in reports:
        rounds.setdefault(report["round"], []).append(report)
    return {
        "currency": price.currency,
        "total": price.amount(_usage_of(reports)),
        "rounds": [
            {"round": number, "cost": price.amount(_usage_of(of_round))} for number, of_round in sorted(rounds.items())
        ],
    }


def report_batch(
    batch: Batch, round_number: int, part: str, usage: Usage, price: Price | None = None
) -> dict[str, Any]:
    """Return the manifest's entry of a batch.

    :param part: the SHA-256 (hex) of its requests
    :param usage: the tokens of its answers
    :param price: None if the job has no prices
    """
    counts = batch.request_counts
    return {
        "id": batch.id,
        "status": batch.final_status or batch.status,
        "errors": first_errors(batch.errors),
        "request_counts": counts and vars(counts),
        "timing": batch.timing.to_report(),
        "tokens": usage.to_json(),
        **({} if price is None else {"cost": price.amount(usage)}),
        "round": round_number,
        "part": part,
    }
