from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from siliconflow_provider.api.errors import ServerError
from siliconflow_provider.api.models import Batch, RequestCounts
from siliconflow_provider.verdicts import describe_job, describe_kill, describe_running

KEPT = "Clearing the task buys nothing"


def described(running: Sequence[str] = (), repeated: int = 0, **fields: Any) -> str:
    usual = {"counts": {"succeeded": 3}, "rows": 3, "rounds": 1, "errors": [], "tokens": {"prompt": 0, "completion": 0}}
    batches = [Batch(each, "in_progress", request_counts=RequestCounts(1000, 143, 2)) for each in running]
    return describe_job({**usual, **fields}, batches, repeated, "my_conn")


def error(count: int, code: str | None, message: str) -> dict[str, Any]:
    return {"count": count, "code": code, "message": message, "first_custom_id": "r0"}


@pytest.mark.parametrize(
    ("fields", "begin"),
    [
        (
            {},
            "3 of 3 requests succeeded in 1 round. Billed in all: 0 prompt and 0 completion tokens. "
            "Nothing runs any more. ",
        ),
        ({"counts": {}, "rows": 0, "rounds": 0}, "0 of 0 requests succeeded in 0 rounds. Billed in all: "),
        (
            {"counts": {"succeeded": 1_200_000, "failed": 3_400, "missing": 1}, "rows": 1_203_401, "rounds": 2},
            "1,200,000 of 1,203,401 requests succeeded in 2 rounds (3,400 failed, 1 missing). Billed in all: ",
        ),
        ({"counts": {"expired": 2}, "rows": 2}, "0 of 2 requests succeeded in 1 round (2 expired). Billed in all: "),
        (
            {"errors": [error(7, "503", "busy.")]},
            "3 of 3 requests succeeded in 1 round; most often: 7 x 503: busy. Bil",
        ),
        (
            {"errors": [error(7, None, "busy")]},
            "3 of 3 requests succeeded in 1 round; most often: 7 x error: busy. Bil",
        ),
        (
            {
                "errors": [
                    error(4_000, "a", "one"),
                    error(3, "b", "two."),
                    error(2, "c", "three"),
                    error(1, "d", "four"),
                ]
            },
            "3 of 3 requests succeeded in 1 round; most often: 4,000 x a: one; 3 x b: two; 2 x c: three. Bil",
        ),
    ],
)
def test_a_job_is_told_by_how_many_of_how_many_and_why_the_rest_not(fields: dict[str, Any], begin: str) -> None:
    assert described(**fields).startswith(begin)


def test_tokens_are_told_as_they_are_billed() -> None:
    said = described(tokens={"prompt": 1_234_567, "completion": 89})
    assert ". Billed in all: 1,234,567 prompt and 89 completion tokens. " in said


@pytest.mark.parametrize(
    ("running", "repeated", "end"),
    [
        ([], 0, f". Nothing runs any more. {KEPT}"),
        ([], 1_500, "any more. Clearing the task sends again what has no good answer (1,500) and keeps the rest"),
        (["batch_1"], 0, f"client.cancel_batch('batch_1'). {KEPT}"),
        (["batch_1", "batch_2"], 2, "(2) and keeps the rest"),
    ],
)
def test_what_still_costs_and_what_clearing_does_comes_last(running: list[str], repeated: int, end: str) -> None:
    said = described(running, repeated)
    assert said.endswith(end)
    assert ("Nothing runs any more" in said) is not bool(running)
    if running:
        assert f". {describe_running(running, 'my_conn')}. " in said


def test_what_running_batches_have_answered_is_billed_too() -> None:
    said = described(["batch_1"])
    assert "0 completion tokens, and what is answered in batch batch_1 (143 of 1,000 requests). " in said
    batches = [Batch("batch_1", "cancelling", request_counts=RequestCounts(9, 4, 0)), Batch("batch_2", "in_queue")]
    manifest = {"counts": {}, "rows": 3, "rounds": 1, "errors": [], "tokens": {"prompt": 0, "completion": 0}}
    said = describe_job(manifest, batches, 0, "my_conn", cancelled=["batch_1"])
    assert "and what is answered in batches batch_1, batch_2 (how many is unknown). The batch batch_2 runs on" in said


@pytest.mark.parametrize(
    ("batch_ids", "begin", "end"),
    [
        (
            ["batch_1"],
            "The batch batch_1 runs on, ",
            "client = SiliconFlowHook('my_conn').get_conn(); client.cancel_batch('batch_1')",
        ),
        (
            ["batch_1", "batch_2"],
            "The batches batch_1, batch_2 run on, ",
            "client = SiliconFlowHook('my_conn').get_conn(); client.cancel_batch('batch_1'); "
            "client.cancel_batch('batch_2')",
        ),
        (
            [f"batch_{number}" for number in range(2000)],
            f"The 2,000 batches {', '.join(f'batch_{number}' for number in range(10))}, and 1,990 more run on, ",
            "a CancelBatchOperator without batch_id, in this DAG run",
        ),
    ],
)
def test_what_runs_on_is_named_with_how_to_end_it(batch_ids: list[str], begin: str, end: str) -> None:
    said = describe_running(batch_ids, "my_conn")
    assert said.startswith(begin)
    assert said.endswith(f"To cancel: {end}")
    assert "what is answered is billed" in said


def test_a_kill_is_told_in_a_line_for_each_outcome() -> None:
    outcomes = {
        "batch_1": Batch("batch_1", "cancelling"),
        "batch_2": ServerError("POST /batches/batch_2/cancel was refused"),
        "batch_3": Batch("batch_3", "completed"),
        "batch_4": Batch("batch_4", "cancelling"),
        "batch_5": ServerError("POST /batches/batch_5/cancel was refused"),
    }
    assert describe_kill(outcomes, "my_conn", cancel=True) == [
        "killed: batches batch_1, batch_4 are cancelling; what has been answered is billed",
        "killed: could not cancel batches batch_2, batch_5: POST /batches/batch_2/cancel was refused. What still runs "
        "is billed. To cancel: client = SiliconFlowHook('my_conn').get_conn(); client.cancel_batch('batch_2'); "
        "client.cancel_batch('batch_5')",
        "killed: batch batch_3 is completed; what has been answered is billed",
    ]


def test_what_a_kill_was_not_to_cancel_runs_on() -> None:
    outcomes = {"batch_1": Batch("batch_1", "in_progress"), "batch_2": ServerError("busy")}
    first, second = describe_kill(outcomes, "my_conn", cancel=False)
    assert first == f"killed: {describe_running(['batch_1'], 'my_conn')}"
    assert second.startswith("killed: could not ask for batch batch_2: busy. What still runs is billed. To cancel: ")
