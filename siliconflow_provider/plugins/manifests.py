"""Read the parts of a manifest that a page shows. It may be of another version, or written by somebody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from siliconflow_provider.api.service_texts import cut, word
from siliconflow_provider.drawing.phases import BatchBar
from siliconflow_provider.plugins.summaries import amount

SHOWN_ERRORS = 10
_LONGEST_TEXT = 500


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings in a list; none if it is no list."""
    yield from (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()


def batch_bars(manifest: Mapping[str, Any]) -> list[tuple[int, BatchBar]]:
    """Return the batches of a job, each with its round."""
    return [(_integer(batch.get("round")) or 1, _bar(batch)) for batch in mappings(manifest.get("batches"))]


def _bar(batch: Mapping[str, Any]) -> BatchBar:
    timing, counts = _mapping(batch.get("timing")), _mapping(batch.get("request_counts"))
    ends = (_moment(timing.get(f"{status}_at")) for status in ("completed", "failed", "expired", "cancelled"))
    status = word(str(batch.get("status") or "unknown"))
    return BatchBar(
        word(str(batch.get("id"))),
        _moment(timing.get("created_at")),
        _moment(timing.get("in_progress_at")),
        _moment(timing.get("finalizing_at")),
        next((end for end in ends if end is not None), None),
        _moment(timing.get("expires_at")),
        status,
        _integer(counts.get("completed")),
        _integer(counts.get("total")),
        _integer(counts.get("failed")),
    )


def counts_of(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of rows of each status."""
    counts = _mapping(report.get("counts"))
    return {word(str(name)): count for name, value in counts.items() if (count := _integer(value)) is not None}


def errors_of(manifest: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the commonest errors: count, code, message, and the first request that has it."""
    return [
        (
            f"{_integer(error.get('count')) or 0:,}",
            word(str(error.get("code") or "")),
            cut(str(error.get("message") or ""), _LONGEST_TEXT),
            word(str(error.get("first_custom_id") or "")),
        )
        for error in list(mappings(manifest.get("errors")))[:SHOWN_ERRORS]
    ]


def round_costs(manifest: Mapping[str, Any]) -> dict[int, str | None]:
    """Return the cost of each round."""
    cost = _mapping(manifest.get("cost"))
    return {
        number: amount(found.get("cost"), cost.get("currency"))
        for found in mappings(cost.get("rounds"))
        if (number := _integer(found.get("round"))) is not None
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
