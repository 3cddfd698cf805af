"""What a finished job reports beside its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import first_errors, word
from siliconflow_provider.outputs.answers import ResultRow

if TYPE_CHECKING:
    from siliconflow_provider.inputs.parts import Part
    from siliconflow_provider.jobs.job import Job, Round
    from siliconflow_provider.outputs.result_store import ResultStore

SCHEMA_VERSION = 1
REPORTED_ERRORS = 10
# Messages that name their own request are all different; beyond this many they are counted as one.
DISTINCT_ERRORS = 1_000
# Codes of one byte, with room for `other`.
DISTINCT_REASONS = 254


class Tally:
    """Counts rows while they are written."""

    def __init__(self) -> None:
        self.rows = 0
        self.statuses: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.duplicates = 0
        self.unreadable_lines = 0
        self._errors: dict[tuple[str | None, str], list[Any]] = {}

    def add(self, row: ResultRow) -> None:
        """Count one row."""
        self.rows += 1
        self.statuses[row.status] += 1
        if row.finish_reason is not None:
            reason = row.finish_reason
            if reason not in self.finish_reasons:
                reason = word(reason) if len(self.finish_reasons) < DISTINCT_REASONS else "other"
            self.finish_reasons[reason] += 1
        self.prompt_tokens += row.prompt_tokens or 0
        self.completion_tokens += row.completion_tokens or 0
        if row.error is not None:
            key = (row.error.code, row.error.message)
            if len(self._errors) >= DISTINCT_ERRORS and key not in self._errors:
                is_known = len(self._errors) < 2 * DISTINCT_ERRORS
                key = (row.error.code if is_known else "other", "other messages")
            self._errors.setdefault(key, [0, row.custom_id])[0] += 1

    @property
    def commonest_errors(self) -> list[dict[str, Any]]:
        """The ten commonest errors: code, message, count, and the first request that met it."""
        ranked = sorted(self._errors.items(), key=lambda each: -each[1][0])[:REPORTED_ERRORS]
        return [
            {"code": code, "message": message, "count": count, "first_custom_id": custom_id}
            for (code, message), (count, custom_id) in ranked
        ]

    @property
    def tokens(self) -> dict[str, int]:
        """The tokens that the answers cost."""
        return {"prompt": self.prompt_tokens, "completion": self.completion_tokens}


def build_manifest(batches: Sequence[Batch], tally: Tally, paths: dict[str, str]) -> dict[str, Any]:
    """Return the manifest of a job.

    :param batches: that the rows came from, all over
    :param paths: where the job's files are, by their kind
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "key": next((each.metadata["airflow_key"] for each in batches if "airflow_key" in each.metadata), None),
        "paths": paths,
        "rows": tally.rows,
        "counts": dict(tally.statuses),
        "tokens": tally.tokens,
        "finish_reasons": dict(tally.finish_reasons),
        "errors": tally.commonest_errors,
        "duplicates": tally.duplicates,
        "unreadable_lines": tally.unreadable_lines,
        "batches": [_batch_report(each) for each in batches],
        "rounds": 1,
        "complete": True,
    }


def build_job_manifest(
    job: Job,
    answers: ResultStore,
    batches: Sequence[tuple[Round, Part, Batch]],
    *,
    forgotten: Sequence[Mapping[str, Any]],
    paths: dict[str, str],
    complete: bool,
) -> dict[str, Any]:
    """Return the manifest of a job of many batches.

    Its tokens are those of these batches: what answers cost that were kept from another job stands in that one's.

    :param batches: each with its round and its part
    :param forgotten: the reports of those that the service does not show any more
    :param complete: whether nothing of the job runs any more
    """
    reports = [
        *forgotten,
        *({**_batch_report(batch), "round": round_.number, "part": part.sha256} for round_, part, batch in batches),
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "key": job.key,
        "job_id": job.id,
        "paths": paths,
        "rows": job.requests,
        "counts": answers.counts(),
        "kept": 0 if job.kept is None else job.kept.rows,
        "tokens": {"prompt": answers.prompt_tokens, "completion": answers.completion_tokens},
        "finish_reasons": answers.finish_reasons(),
        "errors": answers.commonest_errors(),
        "duplicates": answers.duplicates,
        "unknown_requests": answers.unknown_requests,
        "unreadable_lines": answers.unreadable_lines,
        "batches": reports,
        "rounds": max((each["round"] for each in reports), default=0),
        "complete": complete,
    }


def _batch_report(batch: Batch) -> dict[str, Any]:
    counts = batch.request_counts
    return {
        "id": batch.id,
        "status": batch.final_status or batch.status,
        "errors": first_errors(batch.errors),
        "request_counts": counts and vars(counts),
        "timing": batch.timing.to_report(),
    }
