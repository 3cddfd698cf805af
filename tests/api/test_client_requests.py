"""Requests that the client refuses, sends or retries, and the responses that it reads."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest

from siliconflow_provider.api import clock as provider_clock
from siliconflow_provider.api import errors
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError

MakeBatch = Callable[..., dict[str, Any]]
GB = 10**9
TRACE = "x_siliconcloud_trace_id"


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
