from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from siliconflow_provider.api.models import Batch
from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.outputs.manifest import build_manifest, report_batch
from siliconflow_provider.outputs.result_store import ResultStore
from siliconflow_provider.outputs.usage import Price, Usage

Make = Callable[..., Batch]
SECRET = "https://bucket.example/out.jsonl?Signature=s3cret"


@pytest.fixture
def results(tmp_path: Any) -> Any:
    """Return the results of three requests: a good one, a failed one, and one of an earlier attempt."""
    with (tmp_path / "rows").open("w+b") as file:
        store = ResultStore(3, file)
        body = {
            "choices": [{"message": {"content": "4"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 2, "completion_tokens": 3},
        }
        lines = [
            {"custom_id": "a", "response": {"body": body}},
            {"custom_id": "a", "response": {"body": body}},
            {"custom_id": "b", "error": {"code": "x", "message": "bad"}},
            {"custom_id": "nobody", "error": {"code": "x", "message": "bad"}},
        ]
        blocks = [*(json.dumps(line).encode() + b"\n" for line in lines), b"{broken\n", b"[]\n"]
        store.begin_batch()
        store.add_file(blocks, {"a": 0, "b": 1, "c": 2}, "batch_1", 1, "output")
        store.set_outcome(2, ResultRow(custom_id="c", status="missing", error=AnswerError("missing", "gone")))
        yield store


def test_a_manifest_describes_the_whole_job(results: ResultStore, batch: Make) -> None:
    counts = {"total": 3, "completed": 1, "failed": 1}
    done = batch("completed", completed_at=100, request_counts=counts)
    reports = [
        report_batch(batch(id="batch_0"), 1, "s0", Usage()),
        report_batch(done, 2, "s1", results.usage_of("batch_1")),
    ]
    paths = {"results": "s3://bucket/results.jsonl"}
    manifest = build_manifest(
        {"key": "key-1", "job_id": "j"}, results, reports, paths=paths, kept=5, reused=2, deduplicated=1, complete=True
    )
    assert manifest.pop("batches") == reports
    assert manifest == {
        "schema_version": 1,
        "key": "key-1",
        "job_id": "j",
        "paths": paths,
        "rows": 3,
        "counts": {"succeeded": 1, "failed": 1, "missing": 1},
        "kept": 5,
        "reused": 2,
        "deduplicated": 1,
        "tokens": {"prompt": 2, "completion": 3, "cached": 0},
        "finish_reasons": {"stop": 1},
        "errors": [
            {"code": "x", "message": "bad", "count": 1, "first_custom_id": "b"},
            {"code": "missing", "message": "gone", "count": 1, "first_custom_id": "c"},
        ],
        "duplicates": 1,
        "unknown_requests": 1,
        "unreadable_lines": 2,
        "rounds": 2,
        "resent": [],
        "complete": True,
    }
    assert [(report["id"], report["status"], report["request_counts"], report["errors"]) for report in reports] == [
        ("batch_0", "in_progress", None, []),
        ("batch_1", "completed", counts, []),
    ]
    assert [(report["round"], report["part"]) for report in reports] == [(1, "s0"), (2, "s1")]
    assert reports[1]["timing"]["total_seconds"] == 100


def test_a_job_without_batches_has_no_rounds() -> None:
    manifest = build_manifest({}, ResultStore(0, io.BytesIO()), [], paths={}, kept=0, complete=False)
    assert [manifest[name] for name in ("rounds", "rows", "counts", "batches")] == [0, 0, {}, []]
    assert manifest["complete"] is False


def test_an_unknown_status_is_reported_by_its_end(batch: Make) -> None:
    assert report_batch(batch("pondering", expired_at=100), 1, "s", Usage())["status"] == "expired"


@pytest.mark.parametrize("times", [{}, {"in_progress_at": 0, "finalizing_at": 100, "completed_at": 100}])
def test_a_manifest_is_plain_json_without_references(results: ResultStore, batch: Make, times: dict[str, Any]) -> None:
    done = batch("completed", output_file_id=SECRET, errors=[f"see {SECRET}"], **times)
    manifest = build_manifest({}, results, [report_batch(done, 1, "s", Usage())], paths={}, kept=0, complete=True)
    text = json.dumps(manifest)
    assert json.loads(msgspec.json.encode(manifest)) == json.loads(text)
    assert "see https://bucket.example/out.jsonl?..." in text
    assert "s3cret" not in text


def test_costs_are_exact_and_add_up(results: ResultStore, batch: Make) -> None:
    price = Price("CNY", lambda usage: usage.prompt * Decimal("0.1") + usage.completion * Decimal("0.2"))
    usages = [(1, Usage(1, 0)), (1, Usage(0, 1)), (2, Usage(2, 3, 1))]
    reports = [report_batch(batch(), number, "s", usage, price) for number, usage in usages]
    manifest = build_manifest({}, results, reports, paths={}, kept=0, complete=True, price=price)
    rounds = [{"round": 1, "cost": 0.3}, {"round": 2, "cost": 0.8}]
    assert manifest["cost"] == {"currency": "CNY", "total": 1.1, "rounds": rounds}
    assert [report["cost"] for report in reports] == [0.1, 0.2, 0.8]
