from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.inputs.parts import Part
from siliconflow_provider.jobs.steps import next_step

A, B = (Part(first=5 * i, lines=5, offset=9 * i, bytes=9, sha256=name) for i, name in enumerate("ab"))
RUNS, OVER, CANCELLING = "in_progress", "completed", "cancelling"
NOT_ASKED = None
LATE, EARLY = 100, 10

# batches by part, requests to repeat (None: answers not collected), rounds left, now; the step: action, parts, batches
TABLE: list[tuple[dict[str, str], int | None, int, int, str, str, str]] = [
    ({}, NOT_ASKED, 1, EARLY, "submit", "ab", ""),
    ({"a": RUNS}, NOT_ASKED, 1, EARLY, "submit", "b", ""),
    ({"a": OVER}, NOT_ASKED, 1, EARLY, "submit", "b", ""),
    ({"a": RUNS, "b": RUNS}, NOT_ASKED, 1, EARLY, "wait", "", "ab"),
    ({"a": OVER, "b": RUNS}, NOT_ASKED, 1, EARLY, "wait", "", "b"),
    ({"a": OVER, "b": CANCELLING}, NOT_ASKED, 1, EARLY, "wait", "", "b"),
    ({"a": OVER, "b": "a new word"}, NOT_ASKED, 1, EARLY, "wait", "", "b"),
    ({"a": OVER, "b": "expired"}, NOT_ASKED, 1, EARLY, "collect", "", ""),
    ({"a": "failed", "b": "cancelled"}, NOT_ASKED, 1, EARLY, "collect", "", ""),
    ({"a": OVER, "b": OVER}, 0, 1, EARLY, "finish", "", ""),
    ({"a": OVER, "b": OVER}, 3, 1, EARLY, "new round", "", ""),
    ({"a": OVER, "b": OVER}, 3, 0, EARLY, "finish", "", ""),
    ({"a": OVER, "b": OVER}, 3, -1, EARLY, "finish", "", ""),
    ({"a": OVER, "b": OVER}, NOT_ASKED, 1, LATE, "collect", "", ""),
    ({"a": OVER, "b": OVER}, 3, 1, LATE, "finish", "", ""),
    ({"a": OVER, "b": RUNS}, NOT_ASKED, 1, LATE, "collect", "", ""),
    ({"a": OVER, "b": RUNS}, 3, 1, LATE, "finish", "", "b"),
    ({"a": RUNS}, 0, 1, LATE, "finish", "b", "a"),
]


@pytest.mark.parametrize(("found", "retryable", "rounds_left", "now", "action", "parts", "batches"), TABLE)
def test_the_next_step_follows_from_parts_and_batches(
    batch: Callable[..., Any],
    at: Callable[[float], Any],
    found: dict[str, str],
    retryable: int | None,
    rounds_left: int,
    now: int,
    action: str,
    parts: str,
    batches: str,
) -> None:
    step = next_step(
        [A, B],
        {name: batch(status, id=name) for name, status in found.items()},
        retryable=retryable,
        rounds_left=rounds_left,
        deadline=at(100),
        now=at(now),
    )
    shown = step.action, "".join(part.sha256 for part in step.parts), "".join(batch.id for batch in step.batches)
    assert shown == (action, parts, batches)


def test_a_job_without_requests_finishes(at: Callable[[float], Any]) -> None:
    steps = [
        next_step([], {}, retryable=count, rounds_left=1, deadline=None, now=at(0)).action for count in (NOT_ASKED, 0)
    ]
    assert steps == ["collect", "finish"]


def test_without_running_batches_nothing_is_late(batch: Callable[..., Any], at: Callable[[float], Any]) -> None:
    """A person may clear a task, or a retry may submit the rest after a crash, days after the first batches ended."""
    over = {"a": batch(OVER)}
    assert next_step([A, B], over, retryable=None, rounds_left=1, deadline=None, now=at(10**6)).action == "submit"
    assert next_step([A], over, retryable=2, rounds_left=1, deadline=None, now=at(10**6)).action == "new round"
