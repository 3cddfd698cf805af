"""`show`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.listing_service import CREATED


def test_show_prints_all_of_a_batch(run: Any, create: Any, clock: Any) -> None:
    batch = create(note="a\nb")
    clock.advance(200)
    printed = run("show", batch.id)
    lines = dict(line.split("  ", 1) for line in printed.out.splitlines())
    shown = {name: value.strip() for name, value in lines.items()}
    assert printed.code == 0
    assert shown["status"] == "completed"
    assert shown["task"] == "nightly/create/manual__1"
    assert shown["requests"] == "3: 3 completed, 0 failed"
    assert shown["created"] == "2027-01-15 08:00:00 UTC"
    assert (shown["seconds queued"], shown["seconds total"]) == ("10", "115")
    assert shown["output file"].startswith("signed URL at 127.0.0.1:")
    assert shown["metadata note"] == r"a\nb"


def test_json_has_the_documented_keys(run: Any, create: Any) -> None:
    shown = run("show", create().id, "--json").json
    assert shown["task"] == {"dag_id": "nightly", "task_id": "create", "run_id": "manual__1", "map_index": -1}
    assert (shown["final_status"], shown["requests"], shown["output_file"]) == (None, None, None)


@pytest.mark.usefixtures("listing_settings")
def test_a_failed_batch_ends_with_one(run: Any, service: Any) -> None:
    errors = [f"line {number}: bad {'x' * 3_000}" for number in range(30)]
    service.has(id="batch_1", status="failed", failed_at=CREATED + 5, errors=errors)
    printed = run("show", "batch_1")
    assert printed.code == 1
    # None is left out: the message of a failed task leads here.
    assert [line for line in printed.out.splitlines() if line.startswith("error: ")] == [
        f"error: {error}" for error in errors
    ]


@pytest.mark.usefixtures("settings")
def test_an_unknown_batch_is_a_sentence(run: Any) -> None:
    printed = run("show", "batch_x")
    assert (printed.code, printed.out) == (1, "")
    assert printed.err.startswith("python -m siliconflow_provider show: GET /batches/batch_x at ")
