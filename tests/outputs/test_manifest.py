from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.outputs.manifest import DISTINCT_ERRORS, Tally, build_manifest

Make = Callable[..., Batch]
SECRET = "https://bucket.example/out.jsonl?Signature=s3cret"


def failed(custom_id: str, message: str, code: str | None = "x") -> ResultRow:
    return ResultRow(custom_id=custom_id, status="failed", error=AnswerError(code, message))


def test_a_tally_counts_rows_tokens_and_reasons() -> None:
    tally = Tally()
    tally.add(ResultRow(custom_id="a", status="succeeded", finish_reason="stop", prompt_tokens=2, completion_tokens=3))
    tally.add(ResultRow(custom_id="b", status="succeeded", finish_reason="length", completion_tokens=4))
    tally.add(ResultRow(custom_id="c", status="succeeded"))
    tally.add(failed("d", "bad"))
    assert (tally.rows, dict(tally.statuses)) == (4, {"succeeded": 3, "failed": 1})
    assert tally.tokens == {"prompt": 2, "completion": 7}
    assert dict(tally.finish_reasons) == {"stop": 1, "length": 1}


def test_the_commonest_errors_come_first_with_the_first_request_that_met_them() -> None:
    tally = Tally()
    for number in range(60):
        tally.add(failed(f"r{number}", f"reason {number % 12}" if number < 36 else "common"))
    tally.add(failed("last", "common", code=None))
    commonest = tally.commonest_errors
    assert commonest[0] == {"code": "x", "message": "common", "count": 24, "first_custom_id": "r36"}
    assert commonest[1:] == [
        {"code": "x", "message": f"reason {number}", "count": 3, "first_custom_id": f"r{number}"} for number in range(9)
    ]


def test_errors_that_are_all_different_take_no_memory_without_end() -> None:
    tally = Tally()
    for number in range(DISTINCT_ERRORS + 500):
        tally.add(failed(f"r{number}", f"request {number} is bad"))
    tally.add(failed("again", "request 0 is bad"))
    assert tally.commonest_errors[:2] == [
        {"code": "x", "message": "other messages", "count": 500, "first_custom_id": f"r{DISTINCT_ERRORS}"},
        {"code": "x", "message": "request 0 is bad", "count": 2, "first_custom_id": "r0"},
    ]
    assert len(tally._errors) == DISTINCT_ERRORS + 1


def test_a_manifest_tells_the_whole_job(batch: Make) -> None:
    tally = Tally()
    tally.add(ResultRow(custom_id="a", status="succeeded", finish_reason="stop", prompt_tokens=2, completion_tokens=3))
    tally.add(failed("b", "bad"))
    tally.duplicates, tally.unreadable_lines = 1, 2
    counts = {"total": 2, "completed": 1, "failed": 1}
    done = batch("completed", completed_at=100, request_counts=counts, metadata={"airflow_key": "key-1"})
    manifest = build_manifest([batch(id="batch_0"), done], tally, {"results": "s3://bucket/results.jsonl"})
    reports = manifest.pop("batches")
    assert manifest == {
        "schema_version": 1,
        "key": "key-1",
        "paths": {"results": "s3://bucket/results.jsonl"},
        "rows": 2,
        "counts": {"succeeded": 1, "failed": 1},
        "tokens": {"prompt": 2, "completion": 3},
        "finish_reasons": {"stop": 1},
        "errors": [{"code": "x", "message": "bad", "count": 1, "first_custom_id": "b"}],
        "duplicates": 1,
        "unreadable_lines": 2,
        "rounds": 1,
        "complete": True,
    }
    assert [(each["id"], each["status"], each["request_counts"], each["errors"]) for each in reports] == [
        ("batch_0", "in_progress", None, []),
        ("batch_1", "completed", counts, []),
    ]
    assert reports[1]["timing"]["total_seconds"] == 100


def test_a_status_that_nobody_has_seen_is_told_by_its_end(batch: Make) -> None:
    manifest = build_manifest([batch("pondering", expired_at=100)], Tally(), {})
    assert (manifest["batches"][0]["status"], manifest["key"]) == ("expired", None)


@pytest.mark.parametrize("times", [{}, {"in_progress_at": 0, "finalizing_at": 100, "completed_at": 100}])
def test_a_manifest_is_plain_json_without_references(batch: Make, times: dict[str, Any]) -> None:
    done = batch("completed", output_file_id=SECRET, errors=[f"see {SECRET}"], **times)
    manifest = build_manifest([done], Tally(), {})
    text = json.dumps(manifest)
    assert json.loads(msgspec.json.encode(manifest)) == json.loads(text)
    assert "s3cret" not in text
