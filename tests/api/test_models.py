from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api.models import Account, Batch, BatchTiming, File, RequestCounts

MakeBatch = Callable[..., dict[str, Any]]
MOMENTS = [
    "created_at",
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
]
URL = "https://bucket.example/out.jsonl?Expires=1&Signature=s3cret"


def test_batch_has_all_fields_of_the_service(batch_json: MakeBatch) -> None:
    batch = Batch.from_json(batch_json(status="in_progress", request_counts={"total": 3, "completed": 2, "failed": 1}))
    assert (batch.id, batch.status, batch.endpoint) == ("batch_rdyqgrcgjg", "in_progress", "/v1/chat/completions")
    assert (batch.input_file_id, batch.completion_window) == ("file-jkvytbjtow", "24h")
    assert (batch.output_file_id, batch.error_file_id, batch.errors) == (None, None, [])
    assert batch.request_counts == RequestCounts(total=3, completed=2, failed=1)
    assert batch.metadata == {"description": "nightly eval job"}


def test_all_nine_times_are_in_utc(batch_json: MakeBatch) -> None:
    numbers = {name: 1741685413 + 60 * place for place, name in enumerate(MOMENTS)}
    timing = Batch.from_json(batch_json(**numbers)).timing
    for name, number in numbers.items():
        moment = getattr(timing, name)
        assert isinstance(moment, pendulum.DateTime), name
        assert (moment.timestamp(), moment.timezone_name) == (number, "UTC"), name


def test_object_with_only_an_id_is_a_batch() -> None:
    batch = Batch.from_json({"id": "batch_1"})
    assert (batch.status, batch.is_terminal, batch.metadata, batch.timing) == ("unknown", False, {}, BatchTiming())
    with pytest.raises(KeyError):
        Batch.from_json({})


@pytest.mark.parametrize("status", ["validating", "in_queue", "in_progress", "finalizing", "cancelling"])
def test_times_do_not_end_a_running_batch(status: str) -> None:
    """`completed_at` may be an estimate."""
    batch = Batch.from_json({"id": "batch_1", "status": status, "completed_at": 200, "expired_at": 300})
    assert (batch.final_status, batch.is_terminal) == (None, False)


@pytest.mark.parametrize("status", ["pondering", None])
def test_times_decide_for_an_unknown_status(status: str | None) -> None:
    assert Batch.from_json({"id": "batch_1", "status": status, "expired_at": 300}).final_status == "expired"
    assert Batch.from_json({"id": "batch_1", "status": status}).final_status is None


def test_durations_are_between_the_times() -> None:
    timing = BatchTiming.from_json(
        {"created_at": 100, "in_progress_at": 110, "finalizing_at": 210, "completed_at": 215}
    )
    lengths = (timing.queued, timing.running, timing.finalizing, timing.total)
    assert lengths == tuple(timedelta(seconds=seconds) for seconds in (10, 100, 5, 115))
    assert all(isinstance(length, pendulum.Duration) for length in lengths)


@pytest.mark.parametrize("end", ["failed_at", "expired_at", "cancelled_at"])
def test_batch_without_finalizing_ran_until_its_end(end: str) -> None:
    timing = BatchTiming.from_json({"created_at": 100, "in_progress_at": 110, end: 160})
    assert (timing.running, timing.finalizing, timing.total) == (timedelta(seconds=50), None, timedelta(seconds=60))


def test_unknown_or_negative_duration_is_none_or_zero() -> None:
    timing = BatchTiming.from_json({"created_at": 100})
    assert (timing.queued, timing.running, timing.finalizing, timing.total) == (None,) * 4
    assert BatchTiming.from_json({"created_at": 100, "in_progress_at": 99}).queued == timedelta(0)


def test_report_is_json_even_for_zero_durations() -> None:
    times = {"created_at": 100, "in_progress_at": 100, "finalizing_at": 150, "completed_at": 150}
    report = BatchTiming.from_json(times).to_report()
    assert json.loads(json.dumps(report)) == report
    assert report["created_at"] == "1970-01-01T00:01:40Z"
    assert report["failed_at"] is None
    seconds = {name: report[f"{name}_seconds"] for name in ("queued", "running", "finalizing", "total")}
    assert seconds == {"queued": 0, "running": 50, "finalizing": 0, "total": 50}


def test_result_references_are_not_in_repr_or_json(batch_json: MakeBatch) -> None:
    batch = Batch.from_json(batch_json(status="completed", output_file_id=URL, error_file_id=URL))
    assert (batch.output_file_id, batch.error_file_id) == (URL, URL)
    for text in (repr(batch), str(batch), json.dumps(batch.to_json())):
        assert "s3cret" not in text
        assert "bucket.example" not in text


def test_signed_url_in_batch_errors_loses_its_query(batch_json: MakeBatch) -> None:
    for errors in (f"cannot read {URL}", [f"cannot read {URL}"], [{"message": f"cannot read {URL}"}]):
        batch = Batch.from_json(batch_json(errors=errors))
        assert batch.errors == ["cannot read https://bucket.example/out.jsonl?..."]


def test_from_json_reads_to_json(batch_json: MakeBatch) -> None:
    numbers = {name: 1741685413 + 60 * place for place, name in enumerate(MOMENTS)}
    counts = {"total": 3, "completed": 2, "failed": 1}
    batch = Batch.from_json(batch_json(status="completed", errors=["odd"], request_counts=counts, **numbers))
    assert Batch.from_json(json.loads(json.dumps(batch.to_json()))) == batch


@pytest.mark.parametrize("value", [True, [], {}, "soon", -1, 10**400, float("inf"), float("nan"), 1e300, 253402300799])
def test_invalid_time_is_none(value: Any) -> None:
    """The end of the calendar is invalid, too: no time could be added to it."""
    assert BatchTiming.from_json({"created_at": value, "expires_at": value}) == BatchTiming()


def test_times_have_whole_seconds() -> None:
    batch = Batch.from_json({"id": "batch_1", "created_at": 100.75, "completed_at": 0.5})
    assert Batch.from_json(batch.to_json()) == batch
    assert not batch.is_terminal


@pytest.mark.parametrize("value", [True, "3", -1, 10**400, 2**64, float("inf")])
def test_invalid_count_is_none(value: Any) -> None:
    assert RequestCounts.from_json({"total": value, "completed": 1.0}) == RequestCounts(0, 1, 0)
    assert File.from_json({"id": "file-1", "bytes": value}).bytes is None


@pytest.mark.parametrize("value", [None, True, [], {}, "", " ", 1.5])
def test_invalid_id_is_none(value: Any) -> None:
    for kind in (Batch, File):
        with pytest.raises(KeyError):
            kind.from_json({"id": value})


@pytest.mark.parametrize("value", [True, ["x"], {"x": 1}])
def test_other_types_are_not_converted_to_text(value: Any) -> None:
    names = ("status", "endpoint", "input_file_id", "completion_window")
    batch = Batch.from_json({"id": "batch_1", "metadata": {"a": value, "b": 7}, **dict.fromkeys(names, value)})
    assert batch == Batch("batch_1", "unknown", metadata={"b": "7"})


def test_invalid_result_reference_is_kept() -> None:
    assert Batch.from_json({"id": "batch_1", "output_file_id": 7}).output_file_id == "7"
    assert Batch.from_json({"id": "batch_1", "output_file_id": {"url": URL}}).output_file_id is not None
    assert Batch.from_json({"id": "batch_1", "output_file_id": {}}).output_file_id is None


def test_single_error_is_kept() -> None:
    assert Batch.from_json({"id": "b", "errors": {"code": "c", "message": "bad"}}).errors == ["c: bad"]
    assert Batch.from_json({"id": "b", "errors": {"data": None}}).errors == []


@pytest.mark.parametrize(
    ("data", "account"),
    [
        (
            {"id": "u", "status": "normal", "balance": "0.88", "chargeBalance": "88.00", "totalBalance": "88.88"},
            Account("normal", "0.88", "88.00", "88.88"),
        ),
        ({"chargeBalance": 88.5, "balance": 1, "totalBalance": True}, Account(None, "1", "88.5", None)),
        ({"id": "u", "status": None, "chargeBalance": {"amount": "1"}, "new": []}, Account()),
    ],
)
def test_account_is_parsed_leniently(data: dict[str, Any], account: Account) -> None:
    assert Account.from_json(data) == account


def test_object_without_fields_is_not_an_account() -> None:
    with pytest.raises(KeyError):
        Account.from_json({"hello": "world"})
