from __future__ import annotations

import gzip
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pendulum
import pytest

from siliconflow_provider.api import client as client_module
from siliconflow_provider.api import errors
from siliconflow_provider.api.client import DEFAULT_BASE_URL, SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import File, RequestCounts

Sums = Callable[[int], bytes]
LARGE = 64 * 1024 * 1024
LITTLE = 16 * 1024 * 1024


def requests_of(emulator: Any) -> list[str]:
    """Return the emulator's requests, such as `POST /v1/batches`."""
    log = (emulator.data_dir / "requests.log").read_text().splitlines()
    return [f"{entry['method']} {entry['path']}" for entry in map(json.loads, log) if entry["event"] == "received"]


def rows(data: bytes) -> dict[str, Any]:
    return {line["custom_id"]: line for line in map(json.loads, data.splitlines())}


def test_repr_shows_the_base_url_but_no_key(client: SiliconFlowClient, emulator: Any) -> None:
    assert client.base_url == emulator.base_url
    assert repr(client) == f"SiliconFlowClient('{emulator.base_url}')"
    assert SiliconFlowClient("sk-abc").base_url == DEFAULT_BASE_URL


def test_upload_from_a_path_keeps_the_file_name(
    client: SiliconFlowClient, clock: Any, tmp_path: Path, sums: Sums
) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(sums(3))
    file = client.upload_file(path)
    moment = pendulum.from_timestamp(int(clock.now))
    assert file == File(file.id, "questions.jsonl", len(sums(3)), "batch", moment)
    assert client.upload_file(str(path)).filename == "questions.jsonl"


@pytest.mark.parametrize("name", ["other.jsonl", 'a "b".jsonl', "вопросы é.jsonl", "a;b=c.jsonl"])
def test_upload_uses_the_given_file_name(client: SiliconFlowClient, tmp_path: Path, sums: Sums, name: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(sums(1))
    uploaded = client.upload_file(path, filename=name)
    assert (uploaded.filename or "").replace("%22", '"') == name
    assert downloaded(client, uploaded.id) == sums(1)


def downloaded(client: SiliconFlowClient, file_ref: str) -> bytes:
    fileobj = io.BytesIO()
    assert client.download(file_ref, fileobj) == len(fileobj.getvalue())
    return fileobj.getvalue()


def opened(kind: str, path: Path) -> IO[bytes]:
    content = path.read_bytes()
    if kind == "file":
        return path.open("rb")
    if kind == "memory":
        return io.BytesIO(content)
    if kind == "gzip":
        path.write_bytes(gzip.compress(content))
        return gzip.open(path)  # type: ignore[return-value]
    make: Any = {"temporary": tempfile.TemporaryFile, "spooled": tempfile.SpooledTemporaryFile}[kind]
    temporary: IO[bytes] = make()
    temporary.write(content)
    temporary.seek(0)
    return temporary


KINDS = {
    "file": "a.jsonl",
    "memory": "requests.jsonl",
    "gzip": "a.jsonl",
    "temporary": "requests.jsonl",
    "spooled": "requests.jsonl",
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_open_file_is_uploaded(client: SiliconFlowClient, tmp_path: Path, sums: Sums, kind: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(sums(200))
    with opened(kind, path) as fileobj:
        file = client.upload_file(fileobj)
    assert downloaded(client, file.id) == sums(200)
    assert (file.bytes, file.filename) == (len(sums(200)), KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_open_file_is_uploaded_from_its_position(
    client: SiliconFlowClient, tmp_path: Path, sums: Sums, kind: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" + sums(5))
    with opened(kind, path) as fileobj:
        fileobj.seek(3)
        file = client.upload_file(fileobj)
    assert downloaded(client, file.id) == sums(5)


def test_uploaded_files_are_listed(client: SiliconFlowClient, clock: Any, sums: Sums) -> None:
    assert client.list_files() == []
    first = client.upload_file(io.BytesIO(sums(1)), filename="a.jsonl")
    clock.advance(60)
    second = client.upload_file(io.BytesIO(sums(2)), filename="b.jsonl")
    assert client.list_files() == [second, first]


def test_batch_runs_from_queue_to_results(client: SiliconFlowClient, clock: Any, sums: Sums, jsonl: Any) -> None:
    lines = sums(3) + jsonl([{"custom_id": "bad", "body": {"model": "deepseek-ai/DeepSeek-V3", "messages": []}}])
    file = client.upload_file(io.BytesIO(lines))
    start = pendulum.from_timestamp(int(clock.now))
    batch = client.create_batch(file.id, metadata={"purpose": "test"})
    assert (batch.status, batch.is_terminal, batch.request_counts) == ("in_queue", False, None)
    assert (batch.input_file_id, batch.endpoint) == (file.id, "/v1/chat/completions")
    assert (batch.completion_window, batch.metadata) == ("24h", {"purpose": "test"})
    assert batch.timing.created_at == start
    assert batch.timing.expires_at == start.add(hours=24)

    seen = []
    for seconds in (15, 50, 48, 10):
        clock.advance(seconds)
        seen.append(client.get_batch(batch.id))
    assert [batch.status for batch in seen] == ["in_progress", "in_progress", "finalizing", "completed"]
    assert seen[1].request_counts == RequestCounts(total=4, completed=2, failed=0)

    done = seen[-1]
    assert (done.is_terminal, done.final_status, done.errors) == (True, "completed", [])
    assert done.request_counts == RequestCounts(total=4, completed=3, failed=1)
    assert done.timing.queued == timedelta(seconds=10)
    assert done.timing.running == timedelta(seconds=100)
    assert done.timing.finalizing == timedelta(seconds=5)
    assert done.timing.total == timedelta(seconds=115)
    answers = rows(downloaded(client, done.output_file_id or ""))
    assert {name: line["response"]["body"]["choices"][0]["message"]["content"] for name, line in answers.items()} == {
        "r0": "1",
        "r1": "2",
        "r2": "3",
    }
    assert list(rows(downloaded(client, done.error_file_id or ""))) == ["bad"]


def test_batch_with_a_bad_file_fails_with_errors(client: SiliconFlowClient, clock: Any) -> None:
    batch = client.create_batch(client.upload_file(io.BytesIO(b"not json\n[]\n")).id)
    clock.advance(15)
    failed = client.get_batch(batch.id)
    assert (failed.final_status, failed.output_file_id) == ("failed", None)
    assert failed.errors == ["line 1: not JSON", "line 2: not a JSON object"]
    assert failed.timing.failed_at == failed.timing.ended_at


@pytest.mark.parametrize("window", ["336h", timedelta(days=14), pendulum.duration(weeks=2)])
def test_window_may_be_string_or_duration(client: SiliconFlowClient, sums: Sums, window: Any) -> None:
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(1))).id, completion_window=window)
    assert batch.completion_window == "336h"
    assert (batch.timing.expires_at or 0) - (batch.timing.created_at or 0) == timedelta(days=14)  # type: ignore[operator]


def test_model_replaces_those_of_the_lines(client: SiliconFlowClient, clock: Any, sums: Sums) -> None:
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(1))).id, model="Qwen/QwQ-32B")
    clock.advance(120)
    done = client.get_batch(batch.id)
    answer = rows(downloaded(client, done.output_file_id or ""))["r0"]["response"]["body"]
    assert answer["model"] == "Qwen/QwQ-32B"
    assert answer["choices"][0]["message"]["reasoning_content"]


def test_batch_is_cancelled(client: SiliconFlowClient, clock: Any, sums: Sums) -> None:
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(4))).id)
    clock.advance(60)
    cancelling = client.cancel_batch(batch.id)
    assert (cancelling.status, cancelling.is_terminal) == ("cancelling", False)
    clock.advance(20)
    cancelled = client.get_batch(batch.id)
    assert (cancelled.final_status, cancelled.request_counts) == ("cancelled", RequestCounts(4, 2, 0))
    assert len(rows(downloaded(client, cancelled.output_file_id or ""))) == 2


@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 100])
def test_all_pages_are_listed_newest_first(
    client: SiliconFlowClient, emulator: Any, clock: Any, sums: Sums, page_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE_SIZE", page_size)
    file_id = client.upload_file(io.BytesIO(sums(1))).id
    created = []
    for _ in range(5):
        created.append(client.create_batch(file_id))
        clock.advance(1)
    assert [batch.id for batch in client.list_batches()] == [batch.id for batch in reversed(created)]
    assert requests_of(emulator).count("GET /v1/batches") == -(-5 // page_size)


def test_pages_are_fetched_on_demand(
    client: SiliconFlowClient, emulator: Any, sums: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE_SIZE", 1)
    file_id = client.upload_file(io.BytesIO(sums(1))).id
    for _ in range(3):
        client.create_batch(file_id)
    batches = client.list_batches()
    assert isinstance(batches, Iterator)
    next(batches)
    assert requests_of(emulator).count("GET /v1/batches") == 1


def test_wrong_key_and_unknown_ids_are_named(client: SiliconFlowClient, emulator: Any, held_time: Any) -> None:
    host = emulator.base_url.removeprefix("http://").removesuffix("/v1")
    with pytest.raises(errors.AuthenticationError, match=f"GET /files at {host} was refused: Invalid token: check the"):
        SiliconFlowClient("sk-wrong", emulator.base_url).list_files()
    with pytest.raises(errors.NotFoundError, match=f"GET /batches/batch_x at {host} was refused: no batch has the id"):
        client.get_batch("batch_x")
    with pytest.raises(errors.NotFoundError, match=f"POST /batches/batch_x/cancel at {host} was refused: "):
        client.cancel_batch("batch_x")
    with pytest.raises(errors.NotFoundError, match=f"GET /files/file-x/content at {host} was refused: "):
        client.download("file-x", io.BytesIO())
    with pytest.raises(errors.BadRequestError, match=f"POST /batches at {host} was refused: input_file_id: ") as caught:
        client.create_batch("file-x")
    assert (caught.value.status, caught.value.code, len(caught.value.request_id or "")) == (400, 20012, 32)


def test_id_cannot_reach_another_path(client: SiliconFlowClient, emulator: Any) -> None:
    for odd in ("../files", "a/b?c=d#e", "é"):
        with pytest.raises(errors.NotFoundError):
            client.get_batch(odd)
    paths = [request for request in requests_of(emulator) if not request.startswith("GET /v1/batches/")]
    assert paths == []


def test_large_upload_streams(
    server: Any, caller: SiliconFlowClient, sparse: Callable[[int], Path], peak_of: Any
) -> None:
    server.json({"id": "file-1"})
    path = sparse(LARGE)
    assert peak_of(lambda: caller.upload_file(path)) < LITTLE
    assert server.received[0].size > LARGE


@pytest.mark.parametrize("fail", [lambda server: server.resets(), lambda server: server.json("busy", 503)])
def test_retried_upload_is_complete(
    server: Any, caller: SiliconFlowClient, tmp_path: Path, sums: Sums, fail: Callable[[Any], Any]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(sums(500))
    fail(server)
    server.json({"id": "file-1"})
    caller.upload_file(path)
    first, second = server.received
    assert first.size == second.size > len(sums(500))
    for request in (first, second):
        assert sums(500) in request.body
        assert b'name="purpose"\r\n\r\nbatch\r\n' in request.body


def test_file_that_shrinks_during_upload_is_an_error(server: Any, caller: SiliconFlowClient, tmp_path: Path) -> None:
    """The rest must not be used as the whole file."""

    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            self.truncate(10)
            return super().read(size)

    with pytest.raises(SiliconFlowError, match=r"requests\.jsonl became shorter"):
        caller.upload_file(Shrinking(b"x" * 100_000))
    assert server.received == []


def test_uploaded_and_downloaded_files_are_equal(client: SiliconFlowClient, sums: Sums) -> None:
    content = sums(2000)
    file = client.upload_file(io.BytesIO(content))
    assert hashlib.sha256(downloaded(client, file.id)).hexdigest() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"id": "batch_1", "x": %b}' % (b"[" * 5000 + b"]" * 5000)])
def test_too_deeply_nested_response_is_unreadable(server: Any, caller: SiliconFlowClient, body: bytes) -> None:
    for _ in range(6):
        server.text(body)
    with pytest.raises(errors.UnreadableAnswerError, match="are not JSON"):
        caller.get_batch("batch_1")


def test_lone_surrogate_in_a_response_is_replaced(server: Any, caller: SiliconFlowClient) -> None:
    """A lone surrogate cannot be stored or sent."""
    server.text(rb'{"id": "batch_1", "metadata": {"a": "half \ud83d", "b": "caf' + b'\xe9"}}')
    assert caller.get_batch("batch_1").metadata == {"a": "half \ufffd", "b": "caf\ufffd"}


@pytest.mark.parametrize("length", ["²", "9" * 5000])
def test_invalid_content_length_is_ignored(server: Any, caller: SiliconFlowClient, length: str) -> None:
    server.always = None
    for _ in range(6):
        server.raw(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode("latin-1"), b"whole")
    assert downloaded(caller, "file-1") == b"whole"
