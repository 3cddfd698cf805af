"""Counts of executions, which show that no request was paid for twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from siliconflow_provider.emulator.errors import ControlError
from siliconflow_provider.emulator.executions import Executions, request_digest
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

Sums = Callable[[int], bytes]


def totals(emulator: Emulator, by: Any = "body") -> tuple[int, int, int]:
    found = emulator.control.executions(by)
    return found.total, found.distinct, found.most


def test_nothing_is_executed_at_first() -> None:
    found = Executions({})
    assert (found.total, found.distinct, found.most) == (0, 0, 0)


def test_digest_is_of_sorted_compact_json() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "é"}]}
    canonical = '{"messages":[{"content":"\\u00e9","role":"user"}],"model":"m"}'
    assert request_digest(body) == hashlib.sha256(canonical.encode()).hexdigest()
    assert request_digest(body, "r0") == hashlib.sha256(f'["r0",{canonical}]'.encode()).hexdigest()


def test_request_is_counted_in_each_batch(api: Any, emulator: Emulator, clock: Any, sums: Sums) -> None:
    api.create(sums(4))
    assert totals(emulator) == (0, 0, 0)
    clock.advance(60)
    assert totals(emulator) == (2, 2, 1)
    api.create(sums(1))
    clock.advance(200)
    assert totals(emulator) == (5, 4, 2)
    body = json.loads(sums(1))["body"]
    counts = emulator.control.executions().counts
    assert counts[request_digest(body)] == 2
    assert sorted(counts.values()) == [1, 1, 1, 2]


def test_key_order_does_not_change_the_identity(
    api: Any, emulator: Emulator, clock: Any, line: Any, jsonl: Any
) -> None:
    first, second = line("a", "x"), line("b", "x")
    second["body"] = dict(reversed(second["body"].items()))
    api.create(jsonl([first, second]))
    clock.advance(200)
    assert totals(emulator) == (2, 1, 2)
    assert totals(emulator, "custom_id") == (2, 2, 1)


def test_replaced_model_is_part_of_the_body(api: Any, emulator: Emulator, clock: Any, sums: Sums) -> None:
    api.create(sums(1))
    api.create(sums(1), replace={"model": "other"})
    clock.advance(200)
    assert totals(emulator) == (2, 2, 1)
    body = json.loads(sums(1))["body"] | {"model": "other"}
    assert emulator.control.executions().counts[request_digest(body)] == 1


@pytest.mark.parametrize(
    ("plan", "executed"),
    [
        ({}, 4),
        ({"end": "failed"}, 0),
        ({"end": "expired"}, 2),
        ({"end": "cancelled", "run_share": 0.25}, 1),
        ({"failing": {"share": 0.5}}, 4),
        ({"missing": {"share": 1}}, 4),
        ({"stuck": "in_queue"}, 0),
    ],
)
def test_unexecuted_requests_are_not_counted(
    api: Any, emulator: Emulator, clock: Any, sums: Sums, plan: Any, executed: int
) -> None:
    emulator.control.plan(**plan)
    api.create(sums(4))
    clock.advance(200)
    assert totals(emulator) == (executed, executed, min(executed, 1))


def test_failed_request_is_counted(api: Any, emulator: Emulator, clock: Any, line: Any, jsonl: Any) -> None:
    api.create(jsonl([line("a", "x", n=0), {"custom_id": "b"}, {"custom_id": "c", "body": 7}]), replace={"model": "m"})
    clock.advance(200)
    assert totals(emulator) == (3, 3, 1)


def test_counts_survive_a_restart(
    api: Any, emulator: Emulator, options: EmulatorOptions, clock: Any, new_api: Any, sums: Sums
) -> None:
    api.create(sums(3))
    emulator.stop()
    clock.advance(200)
    with Emulator(options, clock=clock) as second:
        new_api(second).create(sums(3))
        clock.advance(200)
        assert totals(second) == (6, 3, 2)


def test_unknown_identity_is_refused(emulator: Emulator) -> None:
    with pytest.raises(ControlError, match="by: must be one of body, custom_id, not 'prompt'"):
        emulator.control.executions("prompt")  # type: ignore[arg-type]


def test_batch_has_its_executed_and_answered_requests(api: Any, emulator: Emulator, clock: Any, sums: Sums) -> None:
    emulator.control.plan(failing={"positions": [1]}, missing={"positions": [2]})
    first = api.create(sums(4))
    clock.advance(200)
    second = api.create(sums(2))
    clock.advance(20)
    digests = [request_digest(json.loads(line)["body"]) for line in sums(4).splitlines()]
    old, new = emulator.control.executions_by_batch()
    assert (old.batch_id, old.executed, old.answered) == (first, set(digests), {digests[0], digests[3]})
    assert (new.batch_id, new.executed, new.over_at) == (second, set(), None)
    assert (old.over_at, new.created_at - old.created_at) == (old.created_at + 115, 200)
