from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from siliconflow_provider.api.errors import ServerError
from siliconflow_provider.api.models import Batch, RequestCounts
from siliconflow_provider.verdicts import describe_job, describe_kill, describe_running

KEPT = "Clearing the task would resend nothing"


def described(running: Sequence[str] = (), repeated: int = 0, **fields: Any) -> str:
    usual = {"counts": {"succeeded": 3}, "rows": 3, "rounds": 1, "errors": [], "tokens": {"prompt": 0, "completion": 0}}
    batches = [Batch(item, "in_progress", request_counts=RequestCounts(1000, 143, 2)) for item in running]
    return describe_job({**usual, **fields}, batches, repeated, "my_conn")


def error(count: int, code: str | None, message: str) -> dict[str, Any]:
    return {"count": count, "code": code, "message": message, "first_custom_id": "r0"}


@pytest.mark.parametrize(
    ("fields", "begin"),
    [
        (
            {},
            "3 of 3 requests succeeded in 1 round.\nBilled in total: 0 prompt and 0 completion tokens.\n"
            "No batch is running any more.\n",
        ),
        ({"counts": {}, "rows": 0, "rounds": 0}, "0 of 0 requests succeeded in 0 rounds.\nBilled in total: "),
        (
            {"counts": {"succeeded": 1_200_000, "failed": 3_400, "missing": 1}, "rows": 1_203_401, "rounds": 2},
            "1,200,000 of 1,203,401 requests succeeded in 2 rounds (3,400 failed, 1 missing).\nBilled in total: ",
        ),
        ({"counts": {"expired": 2}, "rows": 2}, "0 of 2 requests succeeded in 1 round (2 expired).\nBilled in total: "),
        (
            {"errors": [error(7, "503", "busy.")]},
            "3 of 3 requests succeeded in 1 round.\nMost frequent errors: 7 x 503: busy.\nBil",
        ),
        (
            {"errors": [error(3, "20024", "Json mode is not supported for this model.")]},
            "3 of 3 requests succeeded in 1 round.\nMost frequent errors: 3 x 20024: Json mode is not supported for "
            'this model.\nFor a model without JSON mode, set request_params={"response_format": None}.\nBilled in ',
        ),
        (
            {"cost": {"currency": "CNY", "total": 0.01234, "rounds": []}},
            "3 of 3 requests succeeded in 1 round.\nBilled in total: 0 prompt and 0 completion tokens, CNY 0.012.\nN",
        ),
        (
            {"errors": [error(7, None, "busy")]},
            "3 of 3 requests succeeded in 1 round.\nMost frequent errors: 7 x error: busy.\nBil",
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
            "3 of 3 requests succeeded in 1 round.\nMost frequent errors: 4,000 x a: one; 3 x b: two; 2 x c: three",
        ),
    ],
)
def test_a_jobs_summary_has_counts_and_errors(fields: dict[str, Any], begin: str) -> None:
    assert described(**fields).startswith(begin)


def test_tokens_are_shown_as_billed() -> None:
    said = described(tokens={"prompt": 1_234_567, "completion": 89})
    assert ".\nBilled in total: 1,234,567 prompt and 89 completion tokens.\n" in said


@pytest.mark.parametrize(
    ("running", "repeated", "end"),
    [
        ([], 0, f".\nNo batch is running any more.\n{KEPT}"),
        ([], 1_500, "any more.\nClearing the task would resend 1,500 requests without a good answer"),
        (["batch_1"], 0, f"siliconflow_provider cancel batch_1 --conn-id my_conn.\n{KEPT}"),
        (["batch_1", "batch_2"], 2, "would resend 2 requests without a good answer"),
    ],
)
def test_a_jobs_summary_ends_with_costs(running: list[str], repeated: int, end: str) -> None:
    said = described(running, repeated)
    assert said.endswith(end)
    assert ("No batch is running any more" in said) is not bool(running)
    if running:
        assert f".\n{describe_running(running, 'my_conn')}.\n" in said


@pytest.mark.parametrize("status", ["failed", "invalid", "rejected"])
def test_rows_that_are_not_resent_have_a_remedy(status: str) -> None:
    end = f'{KEPT}, since these requests would fail again: change them (see read_results(status="{status}"))'
    assert described(counts={"succeeded": 2, status: 1}).endswith(end)


def test_answers_of_running_batches_are_billed_too() -> None:
    said = described(["batch_1"])
    assert "0 completion tokens, plus the answered requests of batch batch_1 (143 of 1,000 requests).\n" in said
    batches = [Batch("batch_1", "cancelling", request_counts=RequestCounts(9, 4, 0)), Batch("batch_2", "in_queue")]
    manifest = {"counts": {}, "rows": 3, "rounds": 1, "errors": [], "tokens": {"prompt": 0, "completion": 0}}
    said = describe_job(manifest, batches, 0, "my_conn", cancelled=["batch_1"])
    assert (
        "plus the answered requests of batches batch_1, batch_2 (number unknown).\nBatch batch_2 is still running"
        in said
    )


@pytest.mark.parametrize(
    ("batch_ids", "begin", "end"),
    [
        (
            ["batch_1"],
            "Batch batch_1 is still running; ",
            "python -m siliconflow_provider cancel batch_1 --conn-id my_conn",
        ),
        (
            ["batch_1", "batch_2"],
            "Batches batch_1, batch_2 are still running; ",
            "python -m siliconflow_provider cancel batch_1 batch_2 --conn-id my_conn",
        ),
        (
            [f"batch_{number}" for number in range(2000)],
            f"2,000 batches {', '.join(f'batch_{number}' for number in range(10))}, and 1,990 more are still running; ",
            "a CancelBatchOperator without batch_id, in this DAG run",
        ),
    ],
)
def test_running_batches_are_named_with_a_remedy(batch_ids: list[str], begin: str, end: str) -> None:
    said = describe_running(batch_ids, "my_conn")
    assert said.startswith(begin)
    assert said.endswith(f"To cancel: {end}")
    assert "answered requests are billed" in said


def test_a_kill_logs_one_line_per_outcome() -> None:
    outcomes = {
        "batch_1": Batch("batch_1", "cancelling"),
        "batch_2": ServerError("POST /batches/batch_2/cancel was refused"),
        "batch_3": Batch("batch_3", "completed"),
        "batch_4": Batch("batch_4", "cancelling"),
        "batch_5": ServerError("POST /batches/batch_5/cancel was refused"),
    }
    assert describe_kill(outcomes, "my_conn", cancel=True) == [
        "task was killed: batches batch_1, batch_4 are cancelling; answered requests are billed",
        "task was killed: could not cancel batches batch_2, batch_5: POST /batches/batch_2/cancel was refused.\n"
        "Running batches are billed.\n"
        "To cancel: python -m siliconflow_provider cancel batch_2 batch_5 --conn-id my_conn",
        "task was killed: batch batch_3 is completed; answered requests are billed",
    ]


def test_uncancelled_batches_of_a_kill_are_running() -> None:
    outcomes = {"batch_1": Batch("batch_1", "in_progress"), "batch_2": ServerError("busy")}
    first, second = describe_kill(outcomes, "my_conn", cancel=False)
    assert first == f"task was killed: {describe_running(['batch_1'], 'my_conn')}"
    assert second.startswith(
        "task was killed: could not get batch batch_2: busy.\nRunning batches are billed.\nTo cancel: "
    )
