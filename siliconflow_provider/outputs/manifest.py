"""Build the manifest that is published beside a job's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import first_errors
from siliconflow_provider.outputs.result_store import ResultStore

SCHEMA_VERSION = 1


def build_manifest(
    identity: dict[str, Any],
    results: ResultStore,
    batches: Sequence[dict[str, Any]],
    *,
    paths: dict[str, str],
    kept: int,
    complete: bool,
) -> dict[str, Any]:
    """Return the manifest of a job.

    The tokens are those of these batches. The tokens of answers that were reused from another job are in that job's
    manifest.

    :param identity: identifies the job and its task
    :param batches: the entries of the job's batches; see `report_batch`
    :param paths: the URLs of the job's files, by kind
    :param kept: the number of answers that were reused from the replaced job
    :param complete: True if no batch of the job runs any more
    """
    return {
        "schema_version": SCHEMA_VERSION,
        **identity,
        "paths": paths,
        "rows": len(results),
        "counts": results.counts(),
        "kept": kept,
        "tokens": {"prompt": results.prompt_tokens, "completion": results.completion_tokens},
        "finish_reasons": results.finish_reasons(),
        "errors": results.commonest_errors(),
        "duplicates": results.duplicates,
        "unknown_requests": results.unknown_requests,
        "unreadable_lines": results.unreadable_lines,
        "batches": list(batches),
        "rounds": max((report["round"] for report in batches), default=0),
        "complete": complete,
    }


def report_batch(batch: Batch, round_number: int, part: str) -> dict[str, Any]:
    """Return the manifest's entry of a batch.

    :param part: the SHA-256 (hex) of its requests
    """
    counts = batch.request_counts
    return {
        "id": batch.id,
        "status": batch.final_status or batch.status,
        "errors": first_errors(batch.errors),
        "request_counts": counts and vars(counts),
        "timing": batch.timing.to_report(),
        "round": round_number,
        "part": part,
    }
