"""Faults over real connections."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from siliconflow_provider.emulator.errors import ControlError
from siliconflow_provider.emulator.faults import TRANSPORT
from siliconflow_provider.emulator.server import Emulator

Sums = Callable[[int], bytes]


@pytest.fixture
def body(api: Any, sums: Sums) -> dict[str, Any]:
    """Return the body of a valid create."""
    return {"input_file_id": api.upload(sums(2)), "endpoint": "/v1/chat/completions", "completion_window": "24h"}


@pytest.fixture
def url(api: Any, clock: Any, body: dict[str, Any]) -> str:
    """Return the signed URL of a result file."""
    batch_id = api.call("POST", "/batches", json=body).json()["id"]
    clock.advance(200)
    reference: str = api.batch(batch_id)["output_file_id"]
    return reference


def test_status_fault_replaces_one_response(api: Any, emulator: Emulator, body: Any) -> None:
    emulator.control.fault("POST /batches", status=429, retry_after=2, times=2)
    answers = [api.call("POST", "/batches", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["2", "2", None]
    assert answers[0].json()["message"] == "a planned 429"
    assert emulator.control.batches_created() == 1


@pytest.mark.parametrize(
    ("fields", "content_type", "content"),
    [
        ({}, "application/json", b'{"code":50505,"message":"Model service overloaded. Please try again later.",'),
        ({"status": 401}, "text/plain", b'"Invalid token"'),
        ({"status": 504}, "text/html", b"<html>"),
        ({"status": 400, "body": {"code": 20012}}, "application/json", b'{"code":20012}'),
        ({"status": 200, "body": "<p>"}, "text/html", b"<p>"),
        ({"status": 500, "body": ""}, "text/plain", b""),
    ],
)
def test_fault_body_is_default_or_given(
    api: Any, emulator: Emulator, fields: Any, content_type: str, content: bytes
) -> None:
    emulator.control.fault("GET /files", **fields)
    answer = api.call("GET", "/files?purpose=batch")
    assert answer.status_code == fields.get("status", 503)
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.content.startswith(content)


def test_status_fault_can_come_after_the_work(api: Any, emulator: Emulator, body: Any) -> None:
    emulator.control.fault("POST /batches", status=504, after_work=True)
    assert api.call("POST", "/batches", json=body).status_code == 504
    assert len(api.call("GET", "/batches").json()["data"]) == 1


@pytest.mark.parametrize(("kind", "created"), [("lost_answer", 1), ("reset", 0)])
def test_connection_can_break_before_or_after_the_work(
    api: Any, emulator: Emulator, body: Any, kind: str, created: int, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.control.fault("POST /batches", kind)
    with pytest.raises(requests.ConnectionError):
        api.call("POST", "/batches", json=body)
    assert len(api.call("GET", "/batches").json()["data"]) == created
    assert emulator.control.answers()["POST /batches"] == {None: 1}
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_upload_can_be_reset_while_sending(api: Any, emulator: Emulator) -> None:
    emulator.control.fault("POST /files", "reset")
    with pytest.raises(requests.ConnectionError):
        api.upload(b"x" * 5_000_000)
    assert api.call("GET", "/files?purpose=batch").json()["data"] == []


@pytest.mark.parametrize("after_bytes", [0, 10])
def test_body_can_be_shorter_than_content_length(
    emulator: Emulator, url: str, after_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = requests.get(url, timeout=10)
    emulator.control.fault("GET /results/{id}", "cut", after_bytes=after_bytes)
    with requests.get(url, timeout=10, stream=True) as answer:
        assert answer.headers["Content-Length"] == whole.headers["Content-Length"]
        received = b""
        chunks = answer.iter_content(1)
        for _ in range(after_bytes):
            received += next(chunks)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            next(chunks)
    assert received == whole.content[:after_bytes]
    assert requests.get(url, timeout=10).content == whole.content
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_short_body_is_not_cut(emulator: Emulator, url: str) -> None:
    whole = requests.get(url, timeout=10).content
    emulator.control.fault("GET /results/{id}", "cut", after_bytes=len(whole))
    assert requests.get(url, timeout=10).content == whole


def test_success_can_have_a_garbage_body(api: Any, emulator: Emulator, body: Any) -> None:
    emulator.control.fault("POST /batches", "garbage", after_work=True)
    answer = api.call("POST", "/batches", json=body)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert emulator.control.batches_created() == 1


@pytest.mark.parametrize(("after_work", "created"), [(False, 0), (True, 1)])
def test_delay_after_the_work_executes_the_request(
    api: Any, emulator: Emulator, body: Any, after_work: bool, created: int
) -> None:
    emulator.control.fault("POST /batches", "delay", seconds=60, after_work=after_work)
    with pytest.raises(requests.ReadTimeout):
        api.session.post(emulator.base_url + "/batches", json=body, timeout=0.2)
    emulator.stop()  # does not wait the minute
    emulator.start()
    assert emulator.control.batches_created() == created


def test_delayed_response_is_complete(api: Any, emulator: Emulator) -> None:
    emulator.control.fault("GET /files", "delay", seconds=0.05)
    started = time.monotonic()
    assert api.call("GET", "/files?purpose=batch").json()["data"] == []
    assert time.monotonic() - started >= 0.05


def test_slow_body_is_complete(emulator: Emulator, url: str) -> None:
    whole = requests.get(url, timeout=10).content
    emulator.control.fault("GET /results/{id}", "slow", chunk_bytes=100, pause_seconds=0.02)
    started = time.monotonic()
    assert requests.get(url, timeout=10).content == whole
    assert time.monotonic() - started >= 0.02 * (len(whole) // 100)


def test_fault_applies_before_the_key_check(emulator: Emulator) -> None:
    emulator.control.fault("GET /files")
    assert requests.get(emulator.base_url + "/files?purpose=batch", timeout=10).status_code == 503


def test_fault_can_apply_to_one_object(api: Any, emulator: Emulator) -> None:
    emulator.control.fault("GET /batches/batch_b", every=1)
    assert [api.call("GET", f"/batches/batch_{name}").status_code for name in "abab"] == [404, 503, 404, 503]


def test_faults_take_turns_and_can_be_deleted(api: Any, emulator: Emulator) -> None:
    emulator.control.fault("GET /files", status=500)
    emulator.control.fault("GET /files", status=502, times=5)
    assert [api.call("GET", "/files?purpose=batch").status_code for _ in range(3)] == [500, 502, 502]
    emulator.control.reset()
    assert api.call("GET", "/files?purpose=batch").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"endpoint": "POST /batch"}, "fault: endpoint: must be one of POST /files, .*, not 'POST /batch'"),
        ({"endpoint": "GET /files", "kind": "crash"}, "fault: kind: must be one of status, .*, not 'crash'"),
        ({"endpoint": "GET /files", "status": 99}, "fault: status: Expected `int` >= 200"),
        ({"endpoint": "GET /files", "seconds": 1}, "fault: .*unknown field `seconds`; there are nth, .*retry_after"),
        ({"endpoint": "GET /files", "kind": "delay"}, "fault: .*missing required field `seconds`"),
        ({"endpoint": "GET /files", "kind": "slow", "chunk_bytes": 0}, "fault: chunk_bytes: Expected `int` >= 1"),
    ],
)
def test_invalid_fault_is_named_with_allowed_values(emulator: Emulator, arguments: Any, error: str) -> None:
    with pytest.raises(ControlError, match=error):
        emulator.control.fault(**arguments)
    assert emulator.control.faults() == []


def test_fault_is_listed_with_its_fields(api: Any, emulator: Emulator) -> None:
    emulator.control.fault("GET /files", "delay", seconds=0, nth=2)
    api.call("GET", "/files?purpose=batch")
    assert emulator.control.faults() == [
        {"kind": "delay", "endpoint": "GET /files", "seconds": 0, "nth": 2, "seen": 1, "used": 0}
    ]
    assert TRANSPORT not in str(emulator.control.faults())
