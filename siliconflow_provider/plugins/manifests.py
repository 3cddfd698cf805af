"""Read the parts of a manifest that a page shows. It may be of another version, or written by somebody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from siliconflow_provider.api.service_texts import cut, word
from siliconflow_provider.drawing.phases import BatchBar
from siliconflow_provider.plugins.summaries import amount, integer

SHOWN_ERRORS = 10
_LONGEST_TEXT = 500
_MOST_NAMES, _MOST_ITEMS = 50, 2_000


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the first mappings in a list; none if it is no list."""
    found = islice(value, _MOST_ITEMS) if isinstance(value, list) else ()
    yield from (item for item in found if isinstance(item, Mapping))


def batch_bars(manifest: Mapping[str, Any]) -> list[tuple[int, BatchBar]]:
    """Return the batches of a job, each with its round."""
    return [(integer(batch.get("round")) or 1, _bar(batch)) for batch in mappings(manifest.get("batches"))]


def _bar(batch: Mapping[str, Any]) -> BatchBar:
    timing, counts = _mapping(batch.get("timing")), _mapping(batch.get("request_counts"))
    ends = (_moment(timing.get(f"{status}_at")) for status in ("completed", "failed", "expired", "cancelled"))
    status = word(_text(batch.get("status")) or "unknown")
    return BatchBar(
        word(_text(batch.get("id"))),
        _moment(timing.get("created_at")),
        _moment(timing.get("in_progress_at")),
        _moment(timing.get("finalizing_at")),
        next((end for end in ends if end is not None), None),
        _moment(timing.get("expires_at")),
        status,
        integer(counts.get("completed")),
        integer(counts.get("total")),
        integer(counts.get("failed")),
    )


def counts_of(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of rows of each status."""
    counts = islice(_mapping(report.get("counts")).items(), _MOST_NAMES)
    return {word(str(name)): count for name, value in counts if (count := integer(value)) is not None}


def errors_of(manifest: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the commonest errors: count, code, message, and the first request that has it."""
    return [
        (
            f"{integer(error.get('count')) or 0:,}",
            word(_text(error.get("code"))),
            cut(_text(error.get("message")), _LONGEST_TEXT),
            word(_text(error.get("first_custom_id"))),
        )
        for error in list(mappings(manifest.get("errors")))[:SHOWN_ERRORS]
    ]


def round_costs(manifest: Mapping[str, Any]) -> dict[int, str | None]:
    """Return the cost of each round."""
    cost = _mapping(manifest.get("cost"))
    return {
        number: amount(found.get("cost"), cost.get("currency"))
        for found in mappings(cost.get("rounds"))
        if (number := integer(found.get("round"))) is not None
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
