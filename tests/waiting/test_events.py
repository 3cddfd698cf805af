from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.waiting.batch_wait import WaitEnd, describe_end
from siliconflow_provider.waiting.events import from_event, to_event

Make = Callable[..., Batch]
At = Callable[[float], pendulum.DateTime]
HOUR = 3600
URL = "https://bucket.example/out.jsonl?Signature=s3cret"


def test_events_contain_no_references_to_results(batch: Make, at: At) -> None:
    done = batch(
        "completed",
        completed_at=HOUR,
        output_file_id=URL,
        error_file_id=URL,
        errors=[f"cannot read {URL}"],
        request_counts={"total": 2, "completed": 2, "failed": 0},
        metadata={"airflow_key": "k"},
    )
    ends = [WaitEnd("batch_1", "over", done, None, None), WaitEnd("batch_2", "timeout", None, "busy", "2027-01-15")]
    payload = json.dumps(to_event(ends))
    assert "s3cret" not in payload
    assert "output" not in payload
    read = from_event(json.loads(payload))
    assert read[1] == ends[1]
    assert (read[0].batch_id, read[0].state) == ("batch_1", "over")
    copy = read[0].batch
    assert copy is not None
    assert (copy.output_file_id, copy.error_file_id) == (None, None)
    assert (copy.id, copy.status, copy.timing, copy.request_counts) == (
        done.id,
        done.status,
        done.timing,
        done.request_counts,
    )
    assert (copy.metadata, copy.errors) == (done.metadata, ["cannot read https://bucket.example/out.jsonl?..."])


DONE = {"id": "b", "status": "completed"}
GOOD = {"batch_id": "b", "state": "over", "batch": DONE, "error": None, "deadline": None}


@pytest.mark.parametrize(
    "event",
    [
        None,
        "done",
        7,
        [],
        {},
        {"status": "success"},
        {"waits": None},
        {"waits": 7},
        {"waits": []},
        {"waits": "done"},
        {"waits": ["done"]},
        {"waits": [{}]},
        {"waits": [GOOD | {"batch": "b"}]},
        {"waits": [GOOD | {"batch": ["b"]}]},
        {"waits": [GOOD | {"batch": {"status": "completed"}}]},
        {"waits": [GOOD | {"more": 1}]},
        {"waits": [GOOD | {"batch": {}}]},
        {"waits": [GOOD | {"batch_id": 7}]},
        {"waits": [GOOD | {"error": ["bad"]}]},
        {"waits": [GOOD | {"deadline": 7}]},
        {"waits": [GOOD | {"batch": {"id": ["b"], "status": "completed"}}]},
        {"waits": [GOOD | {"batch_id": 7}] * 10_000},
        {"waits": [GOOD | {"state": "success"}]},
        {"waits": [GOOD | {"state": "running"}]},
        {"waits": [GOOD | {"batch": None}]},
        {"waits": [GOOD | {"batch": {"id": "b", "status": "in_progress"}}]},
        {"waits": [GOOD, GOOD | {"state": "success"}]},
        {"waits": [{"batch_id": "b", "batch": None}]},
    ],
    ids=lambda event: repr(event)[:80],
)
def test_foreign_events_are_rejected(event: Any) -> None:
    assert from_event({"waits": [GOOD]})[0].state == "over"
    with pytest.raises(ValueError, match=r"^unexpected trigger event: .*$"):
        from_event(event)


def test_deep_events_are_rejected_with_short_messages() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"^.{0,300}$"):
        from_event({"waits": deep})


def size(ends: list[WaitEnd]) -> int:
    return len(json.dumps(to_event(ends)))


def read(end: WaitEnd, beside: int = 0) -> Batch:
    """Return the batch of the end after it was sent in an event together with others."""
    batch = from_event(json.loads(json.dumps(to_event([end, *[end] * beside]))))[0].batch
    assert batch is not None
    return batch


def test_five_thousand_errors_are_shortened(batch: Make) -> None:
    failed = batch("failed", errors=[f"line {number}: not JSON" for number in range(1, 5001)])
    end = WaitEnd("batch_1", "over", failed, None, None)
    assert size([end]) < 5_000
    errors = read(end).errors
    assert errors[:9] == failed.errors[:9]
    assert errors[9:] == ["and 4,991 more"]
    assert describe_end(read(end)).endswith("line 9: not JSON; and 4,991 more")


def test_few_and_short_errors_are_all_there(batch: Make) -> None:
    failed = batch("failed", errors=[f"line {number}: not JSON" for number in range(1, 11)])
    assert read(WaitEnd("batch_1", "over", failed, None, None)).errors == failed.errors


def test_a_long_error_is_cut_with_its_length(batch: Make) -> None:
    end = WaitEnd("batch_1", "over", batch("failed", errors=["x" * 1_000_000]), "y" * 1_000_000, None)
    assert size([end]) < 6_000
    assert read(end).errors == ["x" * 2_000 + "... (998,000 more characters)"]
    (again,) = from_event(to_event([end]))
    assert again.error == "y" * 2_000 + "... (998,000 more characters)"


def test_two_hundred_parts_make_a_small_event(batch: Make) -> None:
    metadata = {"airflow_key": "k" * 64, **{f"own_{number}": "v" * 512 for number in range(10)}}
    failed = batch("failed", errors=["e" * 1_000] * 5_000, metadata=metadata)
    end = WaitEnd("batch_1", "over", failed, "z" * 10_000, None)
    assert size([end] * 200) < 400_000
    shown = read(end, beside=199)
    assert shown.errors == ["e" * 200 + "... (800 more characters)", "and 4,999 more"]
    assert shown.metadata == {"airflow_key": "k" * 64}
