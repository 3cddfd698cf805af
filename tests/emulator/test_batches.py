"""Batches over HTTP, from the queue to their result files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

SECOND = 1_800_000_000
DAY = 24 * 3600
Sums = Callable[[int], bytes]
Line = Callable[..., dict[str, Any]]
Jsonl = Callable[[list[Any]], bytes]


def test_batch_changes_phases_over_time(api: Any, clock: Any, sums: Sums) -> None:
    batch_id = api.create(sums(4))
    seen = []
    for seconds in (0, 10, 50, 50, 5):
        clock.advance(seconds)
        batch = api.batch(batch_id)
        seen.append((batch["status"], batch["request_counts"]))
    assert seen == [
        ("in_queue", None),
        ("in_progress", {"total": 4, "completed": 0, "failed": 0}),
        ("in_progress", {"total": 4, "completed": 2, "failed": 0}),
        ("finalizing", {"total": 4, "completed": 4, "failed": 0}),
        ("completed", {"total": 4, "completed": 4, "failed": 0}),
    ]
    assert (batch["in_progress_at"], batch["finalizing_at"], batch["completed_at"]) == (
        SECOND + 10,
        SECOND + 110,
        SECOND + 115,
    )
    assert batch["error_file_id"] is None


def test_results_are_signed_urls_in_another_order(api: Any, clock: Any, sums: Sums) -> None:
    batch_id = api.create(sums(5))
    clock.advance(200)
    rows = api.rows(api.batch(batch_id)["output_file_id"])
    assert [row["custom_id"] for row in rows] == ["r1", "r3", "r0", "r2", "r4"]
    answers = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
    assert answers == ["2", "4", "1", "3", "5"]
    for row in rows:
        assert set(row) == {"id", "custom_id", "response", "error"}
        assert set(row["response"]) == {"body"}
        assert row["error"] is None
        assert row["response"]["body"]["created"] == SECOND + 10
    assert len({row["id"] for row in rows}) == 5


def test_results_are_found_by_id_after_end(api: Any, clock: Any, sums: Sums) -> None:
    batch_id = api.create(sums(2))
    clock.advance(200)
    url = api.batch(batch_id)["output_file_id"]
    content = f"/files/{urlsplit(url).path.split('/')[-1]}/content"
    assert len(api.call("GET", content).content.splitlines()) == 2
    clock.advance(-100)
    assert api.call("GET", content).status_code == 404


def test_failed_requests_are_in_the_error_file(api: Any, clock: Any, line: Line, jsonl: Jsonl) -> None:
    lines = [line("good", "1+1"), line("bad", "x", max_tokens=0), line("worse", "x", messages=[])]
    batch_id = api.create(jsonl(lines))
    clock.advance(200)
    batch = api.batch(batch_id)
    assert (batch["status"], batch["errors"]) == ("completed", None)
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert [row["custom_id"] for row in api.rows(batch["output_file_id"])] == ["good"]
    bad, worse = api.rows(batch["error_file_id"])
    assert bad == {
        "id": bad["id"],
        "custom_id": "bad",
        "response": None,
        "error": {"code": "invalid_request", "message": "max_tokens: must be an integer of at least 1"},
    }
    assert worse["error"]["message"].startswith("messages:")


def test_batch_without_success_has_no_output_file(api: Any, clock: Any, line: Line, jsonl: Jsonl) -> None:
    batch_id = api.create(jsonl([line("bad", "x", max_tokens=0)]))
    clock.advance(200)
    batch = api.batch(batch_id)
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)
    assert len(api.rows(batch["error_file_id"])) == 1


def test_bad_input_file_fails_the_batch(api: Any, clock: Any, jsonl: Jsonl) -> None:
    batch_id = api.create(jsonl(["nonsense"]))
    clock.advance(200)
    batch = api.batch(batch_id)
    assert (batch["status"], batch["failed_at"]) == ("failed", SECOND + 10)
    assert batch["errors"] == ["line 1: not JSON"]
    assert (batch["output_file_id"], batch["error_file_id"], batch["request_counts"]) == (None, None, None)


def test_replace_overrides_the_model_of_every_line(api: Any, clock: Any, line: Line, jsonl: Jsonl) -> None:
    lines = [line("a", "1+1"), line("b", "2+2", model="other"), {"custom_id": "c"}]
    batch_id = api.create(jsonl(lines), replace={"model": "deepseek-ai/DeepSeek-R1"})
    clock.advance(200)
    batch = api.batch(batch_id)
    bodies = [row["response"]["body"] for row in api.rows(batch["output_file_id"])]
    assert {body["model"] for body in bodies} == {"deepseek-ai/DeepSeek-R1"}
    assert all(body["choices"][0]["message"]["reasoning_content"] for body in bodies)
    assert [row["custom_id"] for row in api.rows(batch["error_file_id"])] == ["c"]


@pytest.fixture
def options(options: Any, request: pytest.FixtureRequest) -> Any:
    """Return emulator options. An indirect parameter sets the duration of the run."""
    return replace(options, run_seconds=getattr(request, "param", options.run_seconds))


@pytest.mark.parametrize("options", [2 * (DAY - 10)], indirect=True)
def test_expired_batch_has_results_and_expired_lines(api: Any, clock: Any, line: Line, jsonl: Jsonl) -> None:
    lines = [line(f"r{i}", "1+1") for i in range(6)]
    lines[1]["body"]["max_tokens"] = 0
    batch_id = api.create(jsonl(lines))
    clock.advance(DAY)
    batch = api.batch(batch_id)
    assert (batch["status"], batch["expired_at"]) == ("expired", batch["expires_at"])
    assert batch["request_counts"] == {"total": 6, "completed": 2, "failed": 4}
    assert {row["custom_id"] for row in api.rows(batch["output_file_id"])} == {"r0", "r2"}
    errors = {row["custom_id"]: row["error"] for row in api.rows(batch["error_file_id"])}
    assert {custom_id: error["code"] for custom_id, error in errors.items()} == {
        "r1": "invalid_request",
        "r3": "batch_expired",
        "r4": "batch_expired",
        "r5": "batch_expired",
    }
    assert errors["r5"]["message"] == ("This request could not be executed before the completion window expired.")


def test_cancelled_batch_has_its_finished_results(api: Any, clock: Any, line: Line, jsonl: Jsonl) -> None:
    lines = [line(f"r{i}", "1+1") for i in range(6)]
    lines[1]["body"]["n"] = lines[5]["body"]["n"] = 0
    batch_id = api.create(jsonl(lines))
    clock.advance(60)
    cancelling = api.call("POST", f"/batches/{batch_id}/cancel").json()
    assert (cancelling["status"], cancelling["cancelling_at"]) == ("cancelling", SECOND + 60)
    assert cancelling["output_file_id"] is None
    clock.advance(20)
    batch = api.batch(batch_id)
    assert (batch["status"], batch["cancelled_at"]) == ("cancelled", SECOND + 80)
    assert batch["request_counts"] == {"total": 6, "completed": 2, "failed": 1}
    assert {row["custom_id"] for row in api.rows(batch["output_file_id"])} == {"r0", "r2"}
    assert [row["custom_id"] for row in api.rows(batch["error_file_id"])] == ["r1"]


def test_batch_cancelled_in_queue_has_no_results(api: Any, clock: Any, jsonl: Jsonl) -> None:
    batch_id = api.create(jsonl(["nonsense"]))
    api.call("POST", f"/batches/{batch_id}/cancel")
    clock.advance(200)
    batch = api.batch(batch_id)
    assert (batch["status"], batch["in_progress_at"], batch["request_counts"]) == ("cancelled", None, None)
    assert (batch["output_file_id"], batch["errors"]) == (None, None)


def test_second_cancel_changes_nothing(api: Any, clock: Any, sums: Sums) -> None:
    batch_id = api.create(sums(1))
    first = api.call("POST", f"/batches/{batch_id}/cancel").json()
    clock.advance(5)
    again = api.call("POST", f"/batches/{batch_id}/cancel")
    assert (again.status_code, again.json()) == (200, first)


@pytest.mark.parametrize(("content", "status"), [(None, "completed"), (b"nonsense\n", "failed")])
def test_ended_batch_cannot_be_cancelled(api: Any, clock: Any, sums: Sums, content: bytes | None, status: str) -> None:
    batch_id = api.create(content or sums(1))
    clock.advance(200)
    answer = api.call("POST", f"/batches/{batch_id}/cancel")
    assert answer.status_code == 400
    assert status in answer.json()["message"]
    assert api.batch(batch_id)["cancelling_at"] is None


def test_files_and_results_are_deleted_after_30_days(api: Any, clock: Any, sums: Sums) -> None:
    file_id = api.upload(sums(1))
    clock.advance(29 * DAY)
    batch_id = api.create(sums(1), input_file_id=file_id)
    clock.advance(DAY)
    assert api.call("GET", f"/files/{file_id}/content").status_code == 404
    assert api.call("GET", "/files?purpose=batch").json()["data"] != []
    with pytest.raises(Exception, match="400"):
        api.create(sums(1), input_file_id=file_id)
    # Results have their own 30 days; their input file is already deleted.
    content = f"/files/{urlsplit(api.batch(batch_id)['output_file_id']).path.split('/')[-1]}/content"
    clock.advance(28 * DAY)
    assert api.call("GET", content).status_code == 200
    clock.advance(2 * DAY)
    assert api.call("GET", content).status_code == 404
    assert api.batch(batch_id)["status"] == "completed"


def test_concurrent_readers_get_the_same_result(api: Any, new_api: Any, emulator: Any, clock: Any, sums: Sums) -> None:
    batch_id = api.create(sums(500))
    clock.advance(200)

    def read(_: int) -> list[dict[str, Any]]:
        own = new_api(emulator)
        rows: list[dict[str, Any]] = own.rows(own.batch(batch_id)["output_file_id"])
        return rows

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(read, range(32)))
    assert all(rows == results[0] for rows in results)
    assert len(results[0]) == 500
    assert len(list((emulator.data_dir / "results").iterdir())) == 1
