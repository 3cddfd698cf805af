from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pendulum
import pytest

from siliconflow_provider.api import client as client_module
from siliconflow_provider.api import clock as provider_clock
from siliconflow_provider.api import errors
from siliconflow_provider.api.client import DEFAULT_BASE_URL, SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch, File, RequestCounts

Sums = Callable[[int], bytes]
MakeBatch = Callable[..., dict[str, Any]]
GB = 10**9
LARGE = 64 * 1024 * 1024
LITTLE = 16 * 1024 * 1024
TRACE = "x_siliconcloud_trace_id"


@pytest.fixture
def sparse(tmp_path: Path) -> Callable[[int], Path]:
    """Return a sparse file of this size."""

    def make(size: int) -> Path:
        path = tmp_path / "sparse.jsonl"
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make


def requests_of(emulator: Any) -> list[str]:
    """Return the emulator's requests, such as `POST /v1/batches`."""
    log = (emulator.data_dir / "requests.log").read_text().splitlines()
    return [f"{entry['method']} {entry['path']}" for entry in map(json.loads, log) if entry["event"] == "received"]


def rows(data: bytes) -> dict[str, Any]:
    return {line["custom_id"]: line for line in map(json.loads, data.splitlines())}


# --- with the emulator


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


# --- refused before sending


def refused(call: Callable[[], Any], server: Any) -> str:
    with pytest.raises(errors.InvalidRequestError) as caught:
        call()
    assert server.received == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"endpoint": "/v1/embeddings"}, r"endpoint '/v1/embeddings': use '/v1/chat/completions'$"),
        ({"completion_window": "12h"}, r"^completion_window '12h' .* 24 to 336 whole hours"),
        ({"completion_window": "337h"}, r"^completion_window '337h' .* 24 to 336 whole hours"),
        ({"completion_window": "24"}, r"^completion_window '24' "),
        ({"completion_window": "24 h"}, r"^completion_window '24 h' "),
        ({"completion_window": 1.5}, r"^completion_window 1\.5 "),
        ({"completion_window": timedelta(minutes=90)}, r"^completion_window 1:30:00 "),
        ({"completion_window": pendulum.duration(days=15)}, r"^completion_window "),
        ({"metadata": {str(number): "" for number in range(17)}}, r"^metadata has 17 pairs, .* accepts at most 16"),
        ({"metadata": {"k" * 65: ""}}, r"^metadata key 'k+\.\.\. has 65 characters, the service accepts at most 64"),
        ({"metadata": {"k": "v" * 513}}, r"^metadata\['k'\] = 'v+\.\.\. has 513 characters, .* accepts at most 512"),
        ({"metadata": {"k": 1}}, r"^metadata\['k'\] = 1 is of type int, the service accepts strings"),
        ({"model": ""}, r"^model is ''"),
        ({"input_file_id": " "}, r"^input_file_id is ' '"),
        ({"input_file_id": None}, r"^input_file_id is None"),
    ],
)
def test_invalid_create_is_not_sent(
    server: Any, caller: SiliconFlowClient, arguments: dict[str, Any], message: str
) -> None:
    found = refused(lambda: caller.create_batch(**{"input_file_id": "file-1", **arguments}), server)
    assert re.search(message, found), found


def test_empty_ids_are_not_sent(server: Any, caller: SiliconFlowClient) -> None:
    assert refused(lambda: caller.get_batch(""), server).startswith("batch_id is ''")
    assert refused(lambda: caller.cancel_batch(""), server).startswith("batch_id is ''")
    assert refused(lambda: caller.download("", io.BytesIO()), server).startswith("file_ref is ''")
    assert refused(lambda: caller.download(None, io.BytesIO()), server).startswith("file_ref is None")  # type: ignore[arg-type]


def test_empty_or_too_large_file_is_not_sent(
    server: Any, caller: SiliconFlowClient, sparse: Callable[[int], Path]
) -> None:
    limit = "the service accepts 1 to 1,000,000,000"
    assert refused(lambda: caller.upload_file(sparse(0)), server) == (
        f"file sparse.jsonl has 0 bytes, {limit}: write requests to it first"
    )
    assert refused(lambda: caller.upload_file(sparse(GB + 1)), server) == (
        f"file sparse.jsonl has 1,000,000,001 bytes, {limit}: cut it into parts"
    )
    ended = io.BytesIO(b"{}")
    ended.seek(2)
    assert "has 0 bytes" in refused(lambda: caller.upload_file(ended), server)


# --- requests and responses


@pytest.mark.parametrize("answer", [{"object": "list"}, {"data": "none"}, 7, "files"])
def test_list_of_unknown_form_is_unreadable(server: Any, caller: SiliconFlowClient, answer: Any) -> None:
    server.json(answer)
    with pytest.raises(
        errors.UnreadableAnswerError,
        match=r"GET /files at 127\.0\.0\.1:\d+ was answered without a list: check the base URL",
    ):
        caller.list_files()


@pytest.mark.parametrize("answer", [{}, {"id": ""}, {"id": [7]}, {"data": None}, {"data": {}}, [], 7, "ok"])
def test_response_without_an_id_is_unreadable(server: Any, caller: SiliconFlowClient, answer: Any) -> None:
    server.json(answer)
    with pytest.raises(errors.UnreadableAnswerError) as caught:
        caller.get_batch("batch_1")
    host = server.base_url.removeprefix("http://").removesuffix("/v1")
    assert str(caught.value) == f"GET /batches/batch_1 at {host} was answered without an id: check the base URL"


NAMELESS = [None, 7, "batch_1", [], {}, {"id": None}, {"id": " "}, {"id": {}}, {"id": True}]


@pytest.mark.parametrize("item", NAMELESS)
def test_listed_batch_without_an_id_is_an_error(server: Any, caller: SiliconFlowClient, item: Any) -> None:
    """It could be the wanted batch, which would then be billed again."""
    server.json({"data": [{"id": "batch_1"}, item]})
    with pytest.raises(errors.UnreadableAnswerError, match=r"GET /batches at 127.* lists a batch without an id, so"):
        list(caller.list_batches())


@pytest.mark.parametrize("item", NAMELESS)
def test_listed_file_without_an_id_is_skipped(server: Any, caller: SiliconFlowClient, item: Any) -> None:
    server.json({"data": [item, {"id": "file-1"}]})
    assert [file.id for file in caller.list_files()] == ["file-1"]


def test_create_sends_exactly_the_given_arguments(
    server: Any, caller: SiliconFlowClient, batch_json: MakeBatch
) -> None:
    server.json(batch_json()).json(batch_json())
    caller.create_batch("file-1")
    caller.create_batch("file-1", completion_window=timedelta(hours=48), metadata={"k": "v"}, model="m")
    plain = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert [json.loads(request.body) for request in server.received] == [
        plain,
        plain | {"completion_window": "48h", "metadata": {"k": "v"}, "replace": {"model": "m"}},
    ]


# --- no second create


LOST: list[tuple[str, Callable[[Any], Any]]] = [
    ("a 500", lambda server: server.json("failed", 500)),
    ("a 503", lambda server: server.json("busy", 503)),
    ("a 504", lambda server: server.text("<html><title>504</title></html>", 504)),
    ("a reset", lambda server: server.resets()),
    ("no answer", lambda server: server.raw()),
    ("garbage", lambda server: server.raw(b"garbage\r\n\r\n")),
    ("a cut body", lambda server: server.cut(b'{"id": "ba', 100)),
    ("a body that is not JSON", lambda server: server.text("<html>")),
    ("a body without an id", lambda server: server.json({"code": 20000, "data": None})),
]


@pytest.mark.parametrize(("name", "fail"), LOST)
def test_create_with_lost_response_is_not_retried(
    server: Any, caller: SiliconFlowClient, name: str, fail: Callable[[Any], Any], batch_json: MakeBatch
) -> None:
    fail(server)
    server.json(batch_json())
    with pytest.raises(errors.CreateUncertainError) as caught:
        caller.create_batch("file-1")
    assert server.asked() == ["POST /v1/batches"]
    assert caught.value.message.startswith(
        "a batch of file file-1 may have been created (the response was lost): "
        "look for it in list_batches() before you create another (POST /batches"
    )


def test_create_that_timed_out_is_not_retried(server: Any, held_time: Any, key: str) -> None:
    server.hangs()
    with pytest.raises(errors.CreateUncertainError, match="timed out"):
        SiliconFlowClient(key, server.base_url, timeout=0.1).create_batch("file-1")
    assert server.asked() == ["POST /v1/batches"]


NO_REFUSALS = [50505, "50505", 50501, 60000, 500, 503, 504, 408, 429]
REFUSALS = [20012, "20012", 20015, 30001, 30003, 400, 403, 404, "insufficient_quota", -1]


def test_uncertain_create_keeps_status_code_and_id(server: Any, caller: SiliconFlowClient) -> None:
    server.json({"code": 50505, "message": "overloaded"}, 503, **{TRACE: "trace-1"})
    with pytest.raises(errors.CreateUncertainError) as caught:
        caller.create_batch("file-1")
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (503, 50505, "trace-1")


def test_rate_limited_create_is_not_retried(server: Any, caller: SiliconFlowClient) -> None:
    server.json("slow down", 429)
    with pytest.raises(errors.RateLimitError):
        caller.create_batch("file-1")
    assert server.asked() == ["POST /v1/batches"]


@pytest.mark.parametrize(
    ("status", "code"),
    [*((status, 20012) for status in (301, 302, 303, 307, 308, 409, 499)), *((200, code) for code in NO_REFUSALS)],
)
def test_ambiguous_response_makes_a_create_uncertain(
    server: Any, caller: SiliconFlowClient, status: int, code: Any
) -> None:
    server.json({"code": code, "message": "sorry"}, status)
    with pytest.raises(errors.CreateUncertainError, match=r"the response is ambiguous.*sorry"):
        caller.create_batch("file-1")
    assert server.asked() == ["POST /v1/batches"]


@pytest.mark.parametrize(
    ("status", "code"),
    [*((status, 50505) for status in (400, 401, 403, 404, 405, 413, 415, 422)), *((200, code) for code in REFUSALS)],
)
def test_refused_create_is_certain(server: Any, caller: SiliconFlowClient, status: int, code: Any) -> None:
    server.json({"code": code, "message": "sorry"}, status)
    with pytest.raises(errors.ServiceError):
        caller.create_batch("file-1")


def test_create_without_connection_is_retried(
    start_server: Any,
    refused_port: int,
    held_time: Any,
    key: str,
    batch_json: MakeBatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []

    def start(seconds: float) -> None:
        if not started:
            started.append(start_server(port=refused_port).json(batch_json()))

    monkeypatch.setattr(provider_clock, "sleep", start)
    client = SiliconFlowClient(key, f"http://127.0.0.1:{refused_port}/v1")
    assert client.create_batch("file-1").id == "batch_rdyqgrcgjg"
    assert started[0].asked() == ["POST /v1/batches"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"code": 20012, "message": "no such file", "data": None}, errors.BadRequestError),
        (400, {"code": 20012, "message": "no such file"}, errors.BadRequestError),
        (401, "Invalid token", errors.AuthenticationError),
        (403, "Forbidden", errors.PermissionDeniedError),
    ],
)
def test_refused_create_is_not_uncertain(
    server: Any, caller: SiliconFlowClient, status: int, body: Any, kind: type[SiliconFlowError]
) -> None:
    server.json(body, status, location=f"{server.base_url}/elsewhere")
    with pytest.raises(kind) as caught:
        caller.create_batch("file-1")
    assert type(caught.value) is kind
    assert server.asked() == ["POST /v1/batches"]


# --- streams


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


# --- secrets


class Watched(logging.Handler):
    """Keeps every record of every logger as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.args} {record.msg}")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Return the texts of all loggers at all levels."""
    caplog.set_level(logging.DEBUG)
    watched = Watched()
    logging.getLogger().addHandler(watched)
    yield watched.texts
    logging.getLogger().removeHandler(watched)


def everything_of(error: BaseException | None) -> str:
    """Return all texts in the traceback, repr and attributes of an error and its causes."""
    texts = []
    if error is not None:
        texts += traceback.format_exception(error)
    while error is not None:
        texts += [repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def test_key_is_sent_to_the_api_only(server: Any, storage: Any, caller: SiliconFlowClient, key: str) -> None:
    server.json({"data": []}).text("mine")
    storage.text("signed")
    caller.list_files()
    assert downloaded(caller, "file-1") == b"mine"
    assert downloaded(caller, storage.signed_url) == b"signed"
    assert [request.key for request in server.received] == [f"Bearer {key}"] * 2
    assert [request.key for request in storage.received] == [None]
    assert key not in repr(storage.received)


def test_signed_url_is_requested_unchanged(storage: Any, caller: SiliconFlowClient) -> None:
    url = f"{storage.origin}/a%2Fb?Signature=a%2Bb%3D&x=%20y&Expires=1"
    storage.text("signed")
    downloaded(caller, url)
    assert storage.received[0].target == url.removeprefix(storage.origin)


def test_signed_url_on_api_origin_gets_no_key(server: Any, caller: SiliconFlowClient) -> None:
    server.text("signed")
    downloaded(caller, server.signed_url)
    assert [request.key for request in server.received] == [None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_key_does_not_follow_a_redirect(
    server: Any, storage: Any, caller: SiliconFlowClient, status: int, key: str
) -> None:
    server.redirects(storage.signed_url, status)
    storage.text("signed")
    assert downloaded(caller, "file-1") == b"signed"
    assert [request.key for request in storage.received] == [None]
    assert key not in repr(storage.received)


def test_key_is_not_added_after_a_signed_url(server: Any, storage: Any, caller: SiliconFlowClient) -> None:
    storage.redirects(f"{server.base_url}/files/file-1/content")
    server.text("mine")
    downloaded(caller, storage.signed_url)
    assert [request.key for request in server.received] == [None]


def test_post_is_not_redirected(server: Any, storage: Any, caller: SiliconFlowClient) -> None:
    for status in (301, 302, 303, 307, 308):
        server.redirects(storage.origin, status)
        with pytest.raises(errors.BadRequestError):
            caller.cancel_batch("batch_1")
    assert storage.received == []


def test_netrc_is_not_read(
    server: Any, storage: Any, held_time: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    client = SiliconFlowClient(key, server.base_url)
    server.json({"data": []}).redirects(storage.signed_url)
    storage.text("signed").text("signed")
    client.list_files()
    downloaded(client, "file-1")
    downloaded(client, storage.signed_url)
    assert [request.key for request in server.received] == [f"Bearer {key}"] * 2
    assert [request.key for request in storage.received] == [None, None]


@pytest.mark.parametrize("key", ["sk-s3cret\nx", "sk s3cret", "sk-s3crét"])
def test_invalid_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        SiliconFlowClient(key)
    assert "s3c" not in everything_of(caught.value).replace(repr(key), "")
    assert "s3c" not in repr(vars(caught.value))


@pytest.mark.parametrize("status", [200, 400, 401, 429, 503])
def test_key_repeated_by_the_service_is_hidden(
    server: Any, caller: SiliconFlowClient, logged: list[str], key: str, status: int
) -> None:
    said = {"code": f"bad {key}", "message": f"the key {key} is bad"}
    for _ in range(6):
        server.json(said, status, x_request_id=f"trace of {key}")
    with pytest.raises(SiliconFlowError) as caught:
        caller.get_batch("batch_1")
    assert "the key *** is bad" in str(caught.value)
    assert key not in everything_of(caught.value)
    assert key not in "".join(logged)


def test_key_at_the_cut_is_not_partly_shown(server: Any, caller: SiliconFlowClient, key: str) -> None:
    server.text("x" * 490 + key, 400)
    with pytest.raises(SiliconFlowError) as caught:
        caller.get_batch("batch_1")
    assert key[:8] not in everything_of(caught.value)


def test_key_in_an_uncertain_create_is_hidden(server: Any, caller: SiliconFlowClient, key: str) -> None:
    server.json(f"failed for {key}", 500)
    with pytest.raises(errors.CreateUncertainError, match=r"failed for \*\*\*") as caught:
        caller.create_batch("file-1")
    assert key not in everything_of(caught.value)


BROKEN: list[tuple[str, Callable[[Any], Any]]] = [
    ("expired", lambda server: server.text("<Error><Message>expired</Message></Error>", 403)),
    ("repeated", lambda server: server.json({"message": f"cannot serve {server.signed_url}"}, 404)),
    ("cut", lambda server: server.cut(b"short", 100)),
    ("reset", lambda server: server.resets()),
    ("busy", lambda server: server.text(f"busy: {server.signed_url}", 503)),
    ("garbage", lambda server: server.raw(b"garbage\r\n\r\n")),
    ("a redirect elsewhere", lambda server: server.redirects(server.signed_url.replace("http:", "s3:"))),
    ("a redirect nowhere", lambda server: server.redirects(server.signed_url.replace("127.0.0.1", ""))),
    ("a redirect to itself", lambda server: server.redirects(server.signed_url)),
]


@pytest.mark.parametrize(("name", "fail"), BROKEN)
def test_signed_url_query_is_never_shown(
    storage: Any,
    caller: SiliconFlowClient,
    logged: list[str],
    signature: str,
    name: str,
    fail: Callable[[Any], Any],
) -> None:
    for _ in range(6):
        fail(storage)
    storage.always = storage.script[-1]
    with pytest.raises(SiliconFlowError) as caught:
        caller.download(storage.signed_url, io.BytesIO())
    assert any("Starting new HTTP connection" in message for message in logged), "the pool logs at DEBUG"
    for text in (everything_of(caught.value), "".join(logged)):
        assert signature not in text
        assert "Expires" not in text
    assert f"127.0.0.1:{storage.port}" in str(caught.value)


def test_signed_url_query_is_not_in_urllib3_warnings(
    storage: Any, caller: SiliconFlowClient, logged: list[str], signature: str
) -> None:
    storage.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon here\r\n\r\n{}")
    caller.download(storage.signed_url, io.BytesIO())
    assert any("Failed to parse headers" in message for message in logged)
    assert signature not in "".join(logged)


def test_unreachable_signed_url_query_is_never_shown(
    refused_port: int, caller: SiliconFlowClient, logged: list[str], signature: str
) -> None:
    url = f"http://127.0.0.1:{refused_port}/out?Signature={signature}"
    with pytest.raises(errors.ConnectionFailedError) as caught:
        caller.download(url, io.BytesIO())
    assert signature not in everything_of(caught.value) + "".join(logged)


def test_invalid_signed_url_is_never_shown(caller: SiliconFlowClient, logged: list[str], signature: str) -> None:
    for url in (f"http://[bad/out?Signature={signature}", f"http://host:x/out?Signature={signature}"):
        with pytest.raises(SiliconFlowError) as caught:
            caller.download(url, io.BytesIO())
        assert signature not in "".join([str(caught.value), repr(vars(caught.value)), *logged])


def test_credentials_in_a_url_are_never_shown(storage: Any, caller: SiliconFlowClient, logged: list[str]) -> None:
    storage.text("no", 403).resets()
    caller._transport._max_retries = 0
    url = storage.signed_url.replace("127", "me:pa55word@127")
    for _ in range(2):
        with pytest.raises(SiliconFlowError) as caught:
            caller.download(url, io.BytesIO())
        assert "pa55word" not in everything_of(caught.value) + "".join(logged)


def test_download_by_signed_url_leaves_no_trace(
    client: SiliconFlowClient, clock: Any, sums: Sums, logged: list[str]
) -> None:
    """With the emulator: no log shows a query, and no repr shows a reference."""
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(1))).id)
    clock.advance(120)
    done = client.get_batch(batch.id)
    assert "Signature=" in (done.output_file_id or "")
    assert rows(downloaded(client, done.output_file_id or ""))
    for text in ("".join(logged), repr(done), json.dumps(done.to_json())):
        assert "Signature" not in text


def test_expired_signed_url_has_a_remedy(client: SiliconFlowClient, clock: Any, sums: Sums) -> None:
    batch = client.create_batch(client.upload_file(io.BytesIO(sums(1))).id)
    clock.advance(120)
    done: Batch = client.get_batch(batch.id)
    clock.advance(61)
    with pytest.raises(errors.PermissionDeniedError) as caught:
        client.download(done.output_file_id or "", io.BytesIO())
    assert "Request has expired.: the link to the result file may have expired: try again" in caught.value.message


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


def test_key_in_batch_errors_is_hidden(server: Any, caller: SiliconFlowClient, key: str) -> None:
    server.json({"id": "batch_1", "status": "failed", "errors": [f"{key} is out of money"]})
    assert caller.get_batch("batch_1").errors == ["*** is out of money"]


def test_escaped_key_in_a_response_is_hidden(server: Any, caller: SiliconFlowClient, key: str) -> None:
    escaped = key.replace("s", "\\u0073", 1)
    server.text(
        json.dumps({"id": "batch_1", "status": "failed", "errors": ["KEY is out of money"]}).replace("KEY", escaped)
    )
    assert caller.get_batch("batch_1").errors == ["*** is out of money"]


def test_short_key_is_kept_in_responses(server: Any, held_time: Any) -> None:
    """Local servers accept short keys, which are not secret."""
    server.json({"id": "batch_1", "status": "completed"})
    assert SiliconFlowClient("batch", server.base_url).get_batch("batch_1").id == "batch_1"


def test_signature_repeated_by_the_storage_is_hidden(storage: Any, caller: SiliconFlowClient, signature: str) -> None:
    storage.text(f"<Error><Message>{signature} is no signature</Message></Error>", 403)
    with pytest.raises(SiliconFlowError) as caught:
        downloaded(caller, storage.signed_url)
    assert "*** is no signature" in str(caught.value)
    assert signature not in everything_of(caught.value)
