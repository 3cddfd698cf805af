from __future__ import annotations

import importlib
import io
import socket
import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest

from siliconflow_provider.api import errors, transport
from siliconflow_provider.api.client import SiliconFlowClient

SECONDS = 0.3
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PROMISED = HEAD + b"Content-Length: 1000000\r\n\r\n"


def dripping(start: bytes, drop: bytes) -> Callable[[Any], Iterator[bytes]]:
    """Return a response with this beginning, followed by single bytes without end."""

    def parts(request: Any) -> Iterator[bytes]:
        yield start
        for piece in repeat(drop):
            time.sleep(0.02)
            yield piece

    return parts


ENDLESS = {
    "head": dripping(b"", b"H"),
    "header": dripping(HEAD + b"A: ", b"b"),
    "headers": dripping(HEAD, b"A: b\r\n"),
    "interim": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": dripping(PROMISED, b" "),
    "unpromised body": dripping(HEAD + b"\r\n", b" "),
    "chunks": dripping(CHUNKED, b"1\r\n \r\n"),
    "size of a chunk": dripping(CHUNKED, b"0"),
    "trailers": dripping(CHUNKED + b"2\r\n{}\r\n0\r\n", b"A: b\r\n"),
    "refusal": dripping(b"HTTP/1.1 503 Busy\r\nContent-Length: 100000\r\n\r\n", b" "),
    "redirect": dripping(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 100000\r\n\r\n", b" "),
}


@pytest.fixture
def brief(server: Any, key: str, held_time: Any, monkeypatch: pytest.MonkeyPatch) -> SiliconFlowClient:
    """Return a client whose exchanges time out after 0.3 s in total, but not between bytes."""
    monkeypatch.setattr(transport, "TIMEOUTS_OF_EXCHANGE", 1)
    return SiliconFlowClient(key, server.base_url, timeout=SECONDS, max_retries=0)


def seconds_of(action: Callable[[], Any]) -> float:
    started = time.monotonic()
    with pytest.raises(errors.SiliconFlowError):
        action()
    return time.monotonic() - started


@pytest.mark.parametrize("part", ENDLESS)
def test_endless_response_times_out(server: Any, brief: SiliconFlowClient, part: str) -> None:
    server.always = ENDLESS[part]
    assert seconds_of(lambda: brief.get_batch("batch_1")) < 20 * SECONDS


def test_timeout_error_has_the_duration(server: Any, brief: SiliconFlowClient) -> None:
    server.always = ENDLESS["body"]
    with pytest.raises(errors.AnswerLostError, match=r"lost or incomplete \(TimeoutError: .* longer than 0.3 s"):
        brief.get_batch("batch_1")
    with pytest.raises(errors.CreateUncertainError):
        brief.create_batch("file-1")


@pytest.mark.parametrize("part", ["head", "body", "chunks", "size of a chunk", "redirect"])
def test_very_slow_download_times_out(server: Any, brief: SiliconFlowClient, part: str) -> None:
    server.always = ENDLESS[part]
    assert seconds_of(lambda: brief.download("file-1", io.BytesIO())) < 20 * SECONDS


def test_steady_download_may_take_longer(
    server: Any, brief: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response of the API may not take longer."""
    monkeypatch.setattr(transport, "SLOWEST_BYTES_PER_SECOND", 10)

    def parts(request: Any) -> Iterator[bytes]:
        yield HEAD + b"Content-Length: 200\r\n\r\n"
        for piece in repeat(b"1" * 10, 20):
            time.sleep(0.02)
            yield piece

    server.script += [parts, parts]
    assert brief.download("file-1", io.BytesIO()) == 200
    with pytest.raises(errors.AnswerLostError):
        brief.get_batch("batch_1")


def test_unread_upload_times_out(key: str, held_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUTS_OF_EXCHANGE", 1)
    monkeypatch.setattr(transport, "SLOWEST_BYTES_PER_SECOND", 10**9)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = SiliconFlowClient(key, f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", timeout=SECONDS, max_retries=0)
        assert seconds_of(lambda: client.upload_file(io.BytesIO(bytes(20_000_000)))) < 20 * SECONDS


def test_chunk_size_line_has_a_limit(server: Any, brief: SiliconFlowClient) -> None:
    server.raw(CHUNKED + b"0" * 200_000)
    with pytest.raises(errors.AnswerLostError, match=r"LineTooLong|chunk size line"):
        brief.download("file-1", io.BytesIO())


def test_only_the_service_gets_the_key(server: Any, brief: SiliconFlowClient, key: str, batch_json: Any) -> None:
    server.json(batch_json()).json({"id": "file-1"})
    seen: list[Any] = []
    brief._transport._session.hooks["response"].append(lambda response, **_: seen.append(response.request.headers))
    brief.get_batch("batch_1")
    # The content of a file is sent unchanged.
    content = b"\r\nAuthorization: Bearer ***\r\n"
    brief.upload_file(io.BytesIO(content))
    assert [request.key for request in server.received] == [f"Bearer {key}"] * 2
    assert content in server.received[1].body
    assert [headers["Authorization"] for headers in seen] == ["Bearer ***"] * 2


@pytest.mark.parametrize("size", [b"-1", b"-2", b"-7fffffff;a=b"])
def test_negative_chunk_size_is_an_error(server: Any, brief: SiliconFlowClient, peak_of: Any, size: bytes) -> None:
    """A size of -1 would read the whole body."""
    server.raw(CHUNKED + size + b"\r\n", *repeat(bytes(1 << 20), 20))

    def ask() -> None:
        with pytest.raises(errors.AnswerLostError, match="chunk"):
            brief.get_batch("batch_1")

    assert peak_of(ask) < 4 << 20


def test_connecting_to_many_addresses_counts_for_the_timeout(
    brief: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", 9)) for last in range(1, 101)]
    tried: list[float] = []

    def connect(connection: socket.socket, address: Any) -> None:
        tried.append(connection.gettimeout() or 0.0)
        time.sleep(SECONDS / 2)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: dead)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(errors.ConnectionFailedError, match=r"no connection .* longer than 0.3 s"):
        brief.get_batch("batch_1")
    assert 1 <= len(tried) <= 3
    assert max(tried) <= SECONDS


def test_download_through_a_socks_proxy(server: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """The peer is a host name, which the proxy resolves."""

    class ThroughProxy(socket.socket):
        def getpeername(self) -> Any:
            return "bucket.example.com", 80

    def connect(*_: Any, **__: Any) -> socket.socket:
        connection = ThroughProxy()
        connection.connect(("127.0.0.1", server.port))
        return connection

    names = ("PROXY_TYPE_SOCKS4", "PROXY_TYPE_SOCKS5")
    parts = {"create_connection": connect, "ProxyError": OSError, **dict.fromkeys(names, 2)}
    monkeypatch.setitem(sys.modules, "socks", SimpleNamespace(**parts))
    monkeypatch.delitem(sys.modules, "urllib3.contrib.socks", raising=False)
    contrib = importlib.import_module("urllib3.contrib.socks")
    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", contrib)
    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", contrib.SOCKSProxyManager)
    monkeypatch.setenv("HTTP_PROXY", "socks5h://127.0.0.1:1")
    server.text("result")
    client = SiliconFlowClient(key, "http://api.example.com/v1", max_retries=0)
    assert client.download("http://bucket.example.com/a?Signature=b", io.BytesIO()) == 6
