from __future__ import annotations

import time
from typing import Any

import pytest

from siliconflow_provider.inputs import Part
from siliconflow_provider.jobs.concurrency import submit_all

PARTS = [Part(number, 1, number, 1, f"{number:064x}") for number in range(50)]


def test_each_part_is_submitted_once() -> None:
    submitted: list[Part] = []
    assert submit_all(PARTS, submitted.append, lambda: None) == []
    assert sorted(submitted, key=PARTS.index) == PARTS


def test_failed_parts_are_returned_in_order() -> None:
    errors = {part.sha256: ValueError(part.sha256) for part in PARTS[::2]}
    failed = submit_all(PARTS, lambda part: errors.get(part.sha256), lambda: None)
    assert failed == [(part, errors[part.sha256]) for part in PARTS[::2]]


def test_the_last_part_is_followed_by_a_call() -> None:
    submitted: list[Part] = []
    seen: list[int] = []
    submit_all(PARTS, submitted.append, lambda: seen.append(len(submitted)))
    assert seen == sorted(seen)
    assert seen[-1] == len(PARTS)


def test_nothing_is_submitted_after_a_timeout() -> None:
    submitted: list[Part] = []

    def submit(part: Part) -> None:
        submitted.append(part)
        if len(submitted) > 1:
            time.sleep(0.1)

    def end() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit_all(PARTS, submit, end)
    assert len(submitted) < len(PARTS)
