"""The endpoints: forms of responses and errors."""

from __future__ import annotations

import socket
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from siliconflow_provider.emulator.batches import BatchStore
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

SECOND = 1_800_000_000
DAY = 24 * 3600
Sums = Callable[[int], bytes]


def test_upload_response_is_wrapped(api: Any) -> None:
    answer = api.call("POST", "/files", data={"purpose": "batch"}, files={"file": ("é.jsonl", b"{}\n")})
    body = answer.json()
    assert body.pop("data") == {
        "id": body_id(answer),
        "object": "file",
        "bytes": 3,
        "createdAt": SECOND,
        "filename": "é.jsonl",
        "purpose": "batch",
    }
    assert body == {"code": 20000, "message": "Ok", "status": True}


def body_id(answer: requests.Response) -> str:
    file_id: str = answer.json()["data"]["id"]
    assert file_id.startswith("file-")
    return file_id


def test_uploaded_files_are_listed_and_served(api: Any) -> None:
    first, second = api.upload(b"{}\n", "a.jsonl"), api.upload(b"[]\n", "b.jsonl")
    listed = api.call("GET", "/files?purpose=batch").json()
    assert listed["object"] == "list"
    assert [(item["id"], item["filename"], item["created_at"]) for item in listed["data"]] == [
        (second, "b.jsonl", SECOND),
        (first, "a.jsonl", SECOND),
    ]
    assert api.call("GET", f"/files/{first}/content").content == b"{}\n"


def test_created_batch_is_queued(api: Any, sums: Sums) -> None:
    file_id = api.upload(sums(1))
    metadata = {"description": "nightly"}
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    created = api.call("POST", "/batches", json=body | {"metadata": metadata}).json()
    batch_id = created.pop("id")
    assert batch_id.startswith("batch_")
    assert created == body | {
        "object": "batch",
        "errors": None,
        "status": "in_queue",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": SECOND,
        "in_progress_at": None,
        "expires_at": SECOND + DAY,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": None,
        "metadata": metadata,
    }
    assert api.batch(batch_id) == created | {"id": batch_id}


@pytest.mark.parametrize(
    "token", [None, "", "Bearer", "Bearer sk-wrong", "Basic sk-emulator", "sk-emulator", "Bearer sk-emulatorx"]
)
@pytest.mark.parametrize("path", ["/files", "/batches", "/batches/batch_x", "/files/file-x/content"])
def test_missing_or_wrong_key_is_refused(idle_emulator: Emulator, token: str | None, path: str) -> None:
    headers = {} if token is None else {"Authorization": token}
    answer = requests.get(idle_emulator.base_url + path, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()) == (401, "Invalid token")


def test_wrong_key_is_refused_during_large_upload(idle_emulator: Emulator) -> None:
    answer = requests.post(
        idle_emulator.base_url + "/files",
        data={"purpose": "batch"},
        files={"file": ("a.jsonl", b"x" * 20_000_000)},
        headers={"Authorization": "Bearer sk-wrong"},
        timeout=10,
    )
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/models"), ("GET", "/batches/"), ("PUT", "/batches"), ("DELETE", "/files"), ("GET", "/docs")],
)
def test_unknown_path_or_method_is_404_string(idle_api: Any, method: str, path: str) -> None:
    answer = idle_api.call(method, path)
    assert (answer.status_code, answer.json()) == (404, "404 page not found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/batches/batch_unknown"),
        ("POST", "/batches/batch_unknown/cancel"),
        ("GET", "/files/file-unknown/content"),
        ("GET", "/files/..%2Femulator.sqlite/content"),
    ],
)
def test_unknown_id_is_404(idle_api: Any, method: str, path: str) -> None:
    answer = idle_api.call(method, path)
    assert answer.status_code == 404
    if isinstance(answer.json(), dict):
        assert set(answer.json()) == {"code", "message", "data"}
        assert answer.json()["data"] is None
    else:
        assert "%2F" in path


def test_batch_of_unknown_file_is_refused(idle_api: Any) -> None:
    body = {"input_file_id": "file-no", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = idle_api.call("POST", "/batches", json=body)
    assert answer.status_code == 400
    assert answer.json() == {
        "code": 20012,
        "message": "input_file_id: there is no file 'file-no'",
        "data": "input_file_id",
    }


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_body_must_be_a_json_object(idle_api: Any, body: bytes) -> None:
    answer = idle_api.call("POST", "/batches", data=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 20012)


def test_batches_are_paged_newest_first(api: Any, sums: Sums) -> None:
    file_id = api.upload(sums(1), "input.jsonl")
    ids = [api.create(sums(1), input_file_id=file_id, metadata={"n": str(n)}) for n in range(5)][::-1]
    everything = api.call("GET", "/batches").json()
    assert [item["id"] for item in everything["data"]] == ids
    assert (everything["first_id"], everything["last_id"], everything["has_more"]) == (ids[0], ids[4], False)
    newest = everything["data"][0]
    assert (newest["file_name"], newest["metadata"], newest["created_at"]) == (
        "input.jsonl",
        {"n": "4"},
        SECOND,
    )
    pages = [("", ids[0:2], True), (ids[1], ids[2:4], True), (ids[3], ids[4:], False), (ids[4], [], False)]
    for after, expected, has_more in pages:
        page = api.call("GET", "/batches", params={"limit": 2} | ({"after": after} if after else {})).json()
        assert ([item["id"] for item in page["data"]], page["has_more"]) == (expected, has_more)


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=-1", "limit"), ("limit=x", "limit"), ("limit=", "limit"),
     ("after=batch_no", "after"), ("after=", "after")],
)  # fmt: skip
def test_invalid_paging_is_refused(idle_api: Any, query: str, field: str) -> None:
    answer = idle_api.call("GET", f"/batches?{query}")
    assert (answer.status_code, answer.json()["data"]) == (400, field)


def test_interrupted_upload_leaves_no_file(emulator: Emulator, api: Any) -> None:
    address = urlsplit(emulator.base_url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-emulator\r\n"
            b"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: 3000000\r\n\r\n"
            b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 2_000_000
        )
    emulator.stop()
    assert [path for path in (emulator.data_dir / "files").rglob("*") if path.is_file()] == []


def test_unexpected_error_is_json(api: Any, monkeypatch: Any) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(BatchStore, "get", broken)
    answer = api.call("GET", "/batches/batch_x")
    assert answer.status_code == 500
    assert set(answer.json()) == {"code", "message", "data"}


def test_every_response_has_its_own_request_id(idle_emulator: Emulator, idle_api: Any) -> None:
    answers = [idle_api.call("GET", path) for path in ("/files", "/files", "/nothing", "/batches/x")]
    answers += [requests.get(idle_emulator.base_url + "/files", timeout=10)]
    answers += [requests.get(idle_emulator.storage_url + "/results/x", timeout=10)]
    assert len({answer.headers["x-siliconcloud-trace-id"] for answer in answers}) == len(answers)


def test_files_are_streamed_to_the_data_directory(api: Any, emulator: Emulator) -> None:
    content = b"0123456789abcdef" * 300_000
    file_id = api.upload(content)
    (stored,) = [path for path in Path(emulator.data_dir, "files").iterdir() if path.is_file()]
    assert stored.read_bytes() == content
    assert api.call("GET", f"/files/{file_id}/content").headers["Content-Length"] == str(len(content))


def test_account_has_its_balance(api: Any) -> None:
    assert api.call("GET", "/user/info").json() == {
        "code": 20000,
        "message": "Ok",
        "status": True,
        "data": {
            "id": "user-emulator",
            "name": "emulator",
            "status": "normal",
            "balance": "0.88",
            "chargeBalance": "88.00",
            "totalBalance": "88.88",
        },
    }


class TestEmptyAccount:
    @pytest.fixture
    def options(self, tmp_path: Path) -> EmulatorOptions:
        return EmulatorOptions(data_dir=tmp_path, charge_balance=Decimal(0))

    def test_batch_without_balance_is_refused(self, api: Any, sums: Sums) -> None:
        body = {"input_file_id": api.upload(sums(1)), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        refused = api.call("POST", "/batches", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, 30001)
        assert api.call("GET", "/batches").json()["data"] == []
