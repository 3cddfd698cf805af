from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.outputs.result_store import ResultStore

Store = Callable[..., ResultStore]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return the results of these rows, the first at position 0."""
    with (tmp_path / "rows").open("w+b") as file:

        def make(*rows: Any) -> ResultStore:
            results = ResultStore(len(rows), file)
            for index, row in enumerate(rows):
                row.index = index
                results.add_earlier_row(row)
            return results

        yield make


@pytest.fixture
def manifest() -> Callable[..., dict[str, Any]]:
    """Return the manifest of a job without batches, with other values for some keys."""

    def make(**changes: Any) -> dict[str, Any]:
        usual = {
            "job_id": "job-1",
            "paths": {"results": "s3://bucket/results.jsonl"},
            "rows": 4,
            "counts": {"succeeded": 3, "failed": 1},
            "tokens": {"prompt": 1_200, "completion": 34, "cached": 0},
            "finish_reasons": {"stop": 3},
            "errors": [],
            "batches": [],
            "resent": [],
            "rounds": 1,
            "complete": True,
        }
        zeros = dict.fromkeys(
            ("kept", "reused", "deduplicated", "duplicates", "unknown_requests", "unreadable_lines"), 0
        )
        return {**usual, **zeros, **changes}

    return make


@pytest.fixture
def report(batch: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return the manifest's entry of a batch that was queued for 10 s and ran for 100 s."""
    from siliconflow_provider.outputs.manifest import report_batch
    from siliconflow_provider.outputs.usage import Usage

    def make(round_number: int = 1, **fields: Any) -> dict[str, Any]:
        times = {"created_at": 1_000, "in_progress_at": 1_010, "finalizing_at": 1_110, "completed_at": 1_115}
        return report_batch(batch("completed", **{**times, **fields}), round_number, "part", Usage())

    return make
