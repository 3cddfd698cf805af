"""Planned outcomes, from the rule to the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests

from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.plans import Plan, Requests
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

SECOND = 1_800_000_000
DAY = 24 * 3600
Sums = Callable[[int], bytes]


@pytest.mark.parametrize(
    ("share", "total", "chosen"),
    [
        (0.5, 4, [0, 2]),
        (0.3, 10, [0, 3, 6]),
        (0.34, 10, [0, 2, 5, 8]),
        (0.1, 30, [0, 10, 20]),
        (1, 3, [0, 1, 2]),
        (0.01, 5, [0]),
    ],
)
def test_share_is_spread_evenly_and_rounded_up(share: float, total: int, chosen: list[int]) -> None:
    requests = Requests(share=share)
    assert [index for index in range(total) if requests.choose(index, "r")] == chosen


def test_requests_are_chosen_by_position_and_custom_id() -> None:
    requests = Requests(positions=frozenset({2}), custom_ids=frozenset({"r5"}))
    assert [index for index in range(9) if requests.choose(index, f"r{index}")] == [2, 5]


def over(api: Any, emulator: Emulator, clock: Any, content: bytes, **plan: Any) -> dict[str, Any]:
    """Return a batch with this plan after all its phases."""
    emulator.control.plan(**plan)
    batch_id = api.create(content)
    clock.advance(200)
    batch: dict[str, Any] = api.batch(batch_id)
    return batch


def ids(api: Any, reference: str | None) -> list[str]:
    return sorted(row["custom_id"] for row in api.rows(reference)) if reference else []


def test_planned_failure_has_errors_and_no_results(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch = over(api, emulator, clock, sums(3), end="failed", errors=["no quota", "no mercy"])
    assert (batch["status"], batch["failed_at"], batch["errors"]) == ("failed", SECOND + 10, ["no quota", "no mercy"])
    assert (batch["output_file_id"], batch["error_file_id"], batch["request_counts"]) == (None, None, None)
    assert over(api, emulator, clock, sums(3), end="failed")["errors"] == ["The batch failed, as planned."]


def test_planned_expiry_has_results_and_expired_lines(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch = over(api, emulator, clock, sums(4), end="expired", run_share=0.75)
    assert (batch["status"], batch["expired_at"], batch["completed_at"]) == ("expired", SECOND + 110, None)
    assert batch["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    assert ids(api, batch["output_file_id"]) == ["r0", "r1", "r2"]
    (row,) = api.rows(batch["error_file_id"])
    assert (row["custom_id"], row["error"]["code"]) == ("r3", "batch_expired")


def test_planned_cancellation_has_some_results(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch = over(api, emulator, clock, sums(4), end="cancelled")
    assert (batch["status"], batch["cancelling_at"], batch["cancelled_at"]) == ("cancelled", SECOND + 110, SECOND + 130)
    assert (ids(api, batch["output_file_id"]), batch["error_file_id"]) == (["r0", "r1"], None)


def test_cancel_does_not_change_a_planned_cancellation(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    emulator.control.plan(end="cancelled")
    batch_id = api.create(sums(4))
    clock.advance(120)
    assert api.call("POST", f"/batches/{batch_id}/cancel").json() == api.batch(batch_id)
    clock.advance(10)
    assert api.batch(batch_id)["cancelled_at"] == SECOND + 130


def test_planned_requests_fail_with_their_error(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    failing = {"positions": [1], "custom_ids": ["r3"], "code": "rate_limit", "message": "too many"}
    batch = over(api, emulator, clock, sums(5), failing=failing)
    assert batch["request_counts"] == {"total": 5, "completed": 3, "failed": 2}
    assert ids(api, batch["output_file_id"]) == ["r0", "r2", "r4"]
    rows = api.rows(batch["error_file_id"])
    planned = {"code": "rate_limit", "message": "too many"}
    assert {row["custom_id"]: row["error"] for row in rows} == {"r1": planned, "r3": planned}


@pytest.mark.parametrize("error", ["busy", ["busy", 7], {"deep": {"deeper": None}}, 7])
@pytest.mark.parametrize("forms", [Forms(), Forms(errors_without_code=True)], ids=["usual", "without code"])
def test_errors_may_have_any_form(api: Any, emulator: Any, clock: Any, sums: Sums, error: Any) -> None:
    batch = over(api, emulator, clock, sums(2), failing={"positions": [1], "error": error})
    assert [row["error"] for row in api.rows(batch["error_file_id"])] == [error]
    assert over(api, emulator, clock, sums(2), end="failed", errors=[error, error])["errors"] == [error, error]


def test_own_fault_comes_before_a_planned_error(api: Any, emulator: Any, clock: Any, line: Any, jsonl: Any) -> None:
    content = jsonl([line("own", "x", max_tokens=0), line("planned", "x")])
    batch = over(api, emulator, clock, content, failing={"share": 1})
    errors = {row["custom_id"]: row["error"]["code"] for row in api.rows(batch["error_file_id"])}
    assert errors == {"own": "invalid_request", "planned": "server_error"}


def test_once_fails_only_the_first_execution(
    api: Any, emulator: Any, clock: Any, sums: Sums, line: Any, jsonl: Any
) -> None:
    emulator.control.plan(every=1, failing={"share": 1, "once": True})
    first = api.create(sums(2))
    clock.advance(50)
    # The first batch has run one of its two requests. The second request has the same body, so it is not new.
    second = api.create(jsonl([line("x", "What is 0 + 1?"), line("y", "new"), line("z", "new")]))
    clock.advance(200)
    third = api.create(sums(2))
    clock.advance(200)
    # Read newest first: the order of reading must not matter.
    batches = [api.batch(batch_id) for batch_id in (third, second, first)]
    assert [ids(api, batch["error_file_id"]) for batch in batches] == [[], ["y"], ["r0", "r1"]]
    assert [ids(api, batch["output_file_id"]) for batch in batches] == [["r0", "r1"], ["x", "z"], []]


def test_body_is_new_until_it_is_executed(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    over(api, emulator, clock, sums(4), end="expired")
    batch = over(api, emulator, clock, sums(4), failing={"share": 1, "once": True})
    assert ids(api, batch["error_file_id"]) == ["r2", "r3"]


def content(reference: str) -> list[bytes]:
    return requests.get(reference, timeout=10).content.splitlines(keepends=True)


def test_lines_can_be_missing_duplicated_damaged_or_unknown(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch = over(
        api,
        emulator,
        clock,
        sums(6),
        missing={"positions": [1]},
        duplicated={"positions": [3]},
        cut={"custom_ids": ["r5"]},
        garbled={"custom_ids": ["r0"]},
        unknown_ids=2,
    )
    assert batch["request_counts"] == {"total": 6, "completed": 5, "failed": 0}
    doubled, again, cut, garbled, *whole = content(batch["output_file_id"])
    assert (json.loads(doubled)["custom_id"], again) == ("r3", doubled)
    for broken in (cut, garbled):
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            json.loads(broken)
    assert b'"r5"' in cut
    with pytest.raises(UnicodeDecodeError):
        garbled.decode()
    rows = [json.loads(line) for line in whole]
    assert [row["custom_id"] for row in rows] == ["r2", "r4", "unknown-0", "unknown-1"]
    assert len({row["id"] for row in rows}) == 4
    assert batch["error_file_id"] is None


def test_error_file_lines_can_be_damaged(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch = over(api, emulator, clock, sums(2), failing={"share": 1}, missing={"positions": [0]}, unknown_ids=1)
    assert (ids(api, batch["error_file_id"]), batch["output_file_id"]) == (["r1"], None)


def test_missing_requests_are_not_counted_but_unwritten_are(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    plan = {"missing": {"positions": [1, 2]}, "unwritten": {"positions": [0]}, "failing": {"positions": [2, 3]}}
    batch = over(api, emulator, clock, sums(5), **plan)
    assert batch["request_counts"] == {"total": 5, "completed": 2, "failed": 1}
    assert (ids(api, batch["output_file_id"]), ids(api, batch["error_file_id"])) == (["r4"], ["r3"])


def test_batch_of_missing_requests_has_no_files(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch = over(api, emulator, clock, sums(2), missing={"share": 1})
    assert batch["request_counts"] == {"total": 2, "completed": 0, "failed": 0}
    assert (batch["output_file_id"], batch["error_file_id"]) == (None, None)


@pytest.mark.parametrize(
    ("plan", "written"),
    [
        ({"stripped_ids": True}, ["A1", "Bee"]),
        ({"lowered_ids": True}, [" a1 ", "bee"]),
        ({"ids_cut_to": 2}, [" A", "Be"]),
        ({"stripped_ids": True, "lowered_ids": True, "ids_cut_to": 1}, ["a", "b"]),
    ],
)
def test_custom_ids_can_be_changed(
    api: Any, emulator: Any, clock: Any, line: Any, jsonl: Any, plan: dict[str, Any], written: list[str]
) -> None:
    content = jsonl([line(" A1 ", "1 + 1"), line("Bee", "2 + 1")])
    batch = over(api, emulator, clock, content, failing={"custom_ids": ["Bee"]}, **plan)
    assert ids(api, batch["output_file_id"]) + ids(api, batch["error_file_id"]) == written


def test_counts_files_and_lines_can_be_late(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    emulator.control.plan(counts_late_seconds=1, files_late_seconds=2, lines_late_seconds=3)
    batch_id = api.create(sums(1))
    clock.advance(115)
    seen = []
    for _ in range(4):
        batch = api.batch(batch_id)
        reference = batch["output_file_id"]
        seen.append((batch["status"], batch["request_counts"] is not None, reference and len(content(reference))))
        clock.advance(1)
    assert seen == [
        ("completed", False, None),
        ("completed", True, None),
        ("completed", True, 0),
        ("completed", True, 1),
    ]


def test_result_files_can_be_missing_at_first(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch = over(api, emulator, clock, sums(1), gone_seconds=100)
    assert requests.get(batch["output_file_id"], timeout=10).status_code == 404
    clock.advance(15)
    assert ids(api, api.batch(batch["id"])["output_file_id"]) == ["r0"]


@pytest.mark.parametrize(
    ("stuck", "completed"), [("in_queue", None), ("in_progress", 2), ("finalizing", 4), ("cancelling", 4)]
)
def test_stuck_batch_keeps_its_status_after_window(
    api: Any, emulator: Any, clock: Any, sums: Sums, stuck: str, completed: int | None
) -> None:
    emulator.control.plan(stuck=stuck)
    batch_id = api.create(sums(4))
    if stuck == "cancelling":
        clock.advance(110)
        api.call("POST", f"/batches/{batch_id}/cancel")
    clock.advance(30 * DAY)
    batch = api.batch(batch_id)
    counts = batch["request_counts"]
    assert (batch["status"], counts and counts["completed"]) == (stuck, completed)
    assert [batch[end] for end in ("completed_at", "failed_at", "expired_at", "cancelled_at")] == [None] * 4


@pytest.mark.parametrize("stuck", ["in_queue", "in_progress", "finalizing"])
def test_stuck_batch_can_be_cancelled(api: Any, emulator: Any, clock: Any, sums: Sums, stuck: str) -> None:
    emulator.control.plan(stuck=stuck)
    batch_id = api.create(sums(4))
    clock.advance(200)
    api.call("POST", f"/batches/{batch_id}/cancel")
    clock.advance(20)
    assert api.batch(batch_id)["status"] == "cancelled"


def test_statuses_can_have_other_words(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    emulator.control.plan(shown_as={"in_queue": "validating", "in_progress": "reviewing"})
    batch_id = api.create(sums(1))
    seen = []
    for seconds in (0, 10, 100, 5):
        clock.advance(seconds)
        batch = api.batch(batch_id)
        seen.append((batch["status"], batch["in_progress_at"]))
    assert seen == [
        ("validating", None),
        ("reviewing", SECOND + 10),
        ("finalizing", SECOND + 10),
        ("completed", SECOND + 10),
    ]


def test_phases_can_have_other_durations(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    emulator.control.plan(queue_seconds=1, run_seconds=2, cancel_seconds=0)
    batch_id = api.create(sums(1))
    clock.advance(8)
    assert (api.batch(batch_id)["finalizing_at"], api.batch(batch_id)["status"]) == (SECOND + 3, "completed")


def test_plan_applies_to_matching_metadata(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    emulator.control.plan(metadata={"team": "a", "n": "1"}, end="failed")
    created = [
        api.create(sums(1)),
        api.create(sums(1), metadata={"team": "a"}),
        api.create(sums(1), metadata={"team": "a", "n": "1", "more": "x"}),
    ]
    clock.advance(200)
    assert [api.batch(batch_id)["status"] for batch_id in created] == ["completed", "completed", "failed"]


def test_refused_create_uses_no_plan(api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    emulator.control.plan(end="failed")
    body = {"input_file_id": "file-no", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert api.call("POST", "/batches", json=body).status_code == 400
    assert [plan["used"] for plan in emulator.control.plans()] == [0]


def test_batch_keeps_its_plan_after_restart_and_reset(
    options: EmulatorOptions, clock: Any, new_api: Any, sums: Sums
) -> None:
    with Emulator(options, clock=clock) as first:
        first.control.plan(failing={"positions": [0], "custom_ids": ["r1"]}, shown_as={"completed": "done"})
        batch_id = new_api(first).create(sums(3))
        first.control.reset()
    clock.advance(200)
    with Emulator(replace(options, control=False), clock=clock) as second:
        api = new_api(second)
        batch = api.batch(batch_id)
        assert (batch["status"], ids(api, batch["error_file_id"])) == ("done", ["r0", "r1"])


def test_batch_stored_without_a_plan_is_read(emulator: Any, api: Any, clock: Any, sums: Sums) -> None:
    batch_id = api.create(sums(1))
    emulator._database.change_batch(batch_id, lambda batch: replace(batch, plan=Plan()))
    record = emulator._database._rows("SELECT record FROM batches")[0]
    stored = json.loads(record)
    assert stored.pop("plan") == {}
    with emulator._database._transaction() as connection:
        connection.execute("UPDATE batches SET record = ?", (json.dumps(stored).encode(),))
    clock.advance(200)
    assert api.batch(batch_id)["status"] == "completed"
