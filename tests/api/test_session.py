from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from siliconflow_provider.api.errors import InvalidRequestError
from siliconflow_provider.api.session import (
    BearerAuth,
    NoAuth,
    Session,
    checked_base_url,
    checked_key,
    origin,
)
from tests.servers import LocalServer, QuietHandler

BAD_KEYS = ["sk-s3cret\nX-Evil: 1", "sk-s3 cret", "sk-s3cret\t1", "sk-s3crét", "sk-s3cret\x00", "sk-s3cret\u200b"]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://api.siliconflow.com/v1", ("https", "api.siliconflow.com", 443)),
        ("HTTPS://API.SiliconFlow.com:443/v1", ("https", "api.siliconflow.com", 443)),
        ("http://127.0.0.1/v1", ("http", "127.0.0.1", 80)),
        ("http://127.0.0.1:8900/v1", ("http", "127.0.0.1", 8900)),
        ("https://[::1]:8900/v1", ("https", "::1", 8900)),
    ],
)
def test_origin_is_scheme_host_and_port(url: str, parts: tuple[Any, ...]) -> None:
    assert origin(url) == parts


def test_white_space_around_a_key_is_removed() -> None:
    assert checked_key("  sk-abc\n").reveal() == "sk-abc"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_invalid_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked_key(key)
    assert "s3" not in str(caught.value)
    assert str(caught.value).startswith("api_key has invalid characters")


@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_empty_key_is_refused(key: str | None) -> None:
    with pytest.raises(InvalidRequestError, match="api_key is empty"):
        checked_key(key)


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://api.siliconflow.com/v1", "https://api.siliconflow.com/v1"),
        ("https://api.siliconflow.com/v1/", "https://api.siliconflow.com/v1"),
        ("http://[::1]:8900/v1", "http://[::1]:8900/v1"),
    ],
)
def test_base_url_loses_its_final_slash(url: str, checked: str) -> None:
    assert checked_base_url(url) == checked


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.siliconflow.com/v1",
        "ftp://host/v1",
        "https:///v1",
        "http://host:99999/v1",
        "http://host:x/v1",
        "http://[",
    ],
)
def test_invalid_base_url_is_named(url: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked_base_url(url)
    assert str(caught.value) == f"base_url {url!r} is not a URL: give one like 'https://api.siliconflow.com/v1'"


@pytest.mark.parametrize(
    "url",
    [
        "https://me:s3cret@host/v1",
        "https://host/v1?key=s3cret",
        "https://host/v1#s3cret",
        "me:s3cret@host/v1",
        "ftp://me:s3cret@host/v1",
        "sk-s3cret",
    ],
)
def test_base_url_with_a_secret_is_not_shown(url: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^base_url ") as caught:
        checked_base_url(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://127.0.0.1:1/v1/files", "Bearer ***"),
        ("http://127.0.0.1:2/v1/files", None),
        ("https://127.0.0.1:1/v1/files", None),
        ("http://localhost:1/v1/files", None),
    ],
)
def test_key_is_added_to_api_requests_only(url: str, header: str | None) -> None:
    auth = BearerAuth("sk-abc", "http://127.0.0.1:1/v1")
    prepared = requests.Request("GET", url, auth=auth).prepare()
    assert prepared.headers.get("Authorization") == header, "the connection puts it there as it sends them"
    assert "Authorization" not in requests.Request("GET", url, auth=NoAuth()).prepare().headers


def test_redirect_within_the_api_keeps_the_key(server: Any, key: str) -> None:
    server.redirects(f"{server.base_url}/elsewhere").json({})
    session = Session(BearerAuth(key, server.base_url))
    session.get(f"{server.base_url}/files", timeout=5)
    assert [request.key for request in server.received] == [f"Bearer {key}"] * 2


def test_redirect_away_and_back_drops_the_key(server: Any, storage: Any, key: str) -> None:
    server.redirects(f"{storage.origin}/a").json({})
    storage.redirects(f"{server.base_url}/b")
    session = Session(BearerAuth(key, server.base_url))
    session.get(f"{server.base_url}/files", timeout=5)
    assert [request.key for request in storage.received] == [None]
    assert [request.key for request in server.received] == [f"Bearer {key}", None]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.siliconflow.com/v2/files", True),
        ("https://API.siliconflow.com:443/v1/files", True),
        ("http://api.siliconflow.com/v1/files", False),
        ("http://api.siliconflow.com:443/v1/files", False),
        ("https://api.siliconflow.com:8443/v1/files", False),
        ("https://api.siliconflow.cn/v1/files", False),
        ("https://siliconflow.com/v1/files", False),
        ("https://api.siliconflow.com.example/v1/files", False),
        ("https://api.siliconflow.com@example.com/v1/files", False),
    ],
)
def test_key_stays_with_its_origin(url: str, kept: bool) -> None:
    session = Session(BearerAuth("sk-abc", "https://api.siliconflow.com/v1"))
    asked = session.prepare_request(requests.Request("GET", "https://api.siliconflow.com/v1/files"))
    redirected = session._redirected(asked, url)
    assert ("Authorization" in redirected.headers) is kept


def test_no_cookie_is_kept(server: Any, key: str) -> None:
    """A client can live as long as the triggerer."""
    cookie = "c=1; path=/"
    server.redirects(f"{server.base_url}/elsewhere").json({}, set_cookie=cookie).json({}, set_cookie=cookie)
    server.script[0].parts = [server.script[0].parts[0].replace(b"Location", b"Set-Cookie: d=2\r\nLocation", 1)]
    session = Session(BearerAuth(key, server.base_url))
    for _ in range(2):
        session.get(f"{server.base_url}/files", timeout=5)
    assert len(session.cookies) == 0
    assert [request.headers.get("cookie") for request in server.received] == [None] * 3


@pytest.mark.parametrize("location", ["http://[", "http://a:99999/", "http://.a/", "\xff"])
def test_redirect_without_target_is_a_response(server: Any, key: str, location: str) -> None:
    server.raw(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))
    session = Session(BearerAuth(key, server.base_url))
    assert session.get(f"{server.base_url}/files", timeout=5).status_code == 302


def test_http_client_debug_level_prints_nothing(
    server: Any, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would print the key and signed URLs."""
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    server.json({}).json({}).json({})
    session = Session(BearerAuth(key, server.base_url))
    for _ in range(2):
        session.get(f"{server.base_url}/files", timeout=5)
    assert capsys.readouterr().out == ""
    requests.get(f"{server.base_url}/files", timeout=5)
    assert "send: " in capsys.readouterr().out


class KeepAliveServer(LocalServer):
    """A server that keeps connections open. `peers` has the client's address of each request."""

    def __init__(self) -> None:
        peers: list[Any] = []

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                peers.append(self.client_address)
                self.send_response(204)
                self.end_headers()

        super().__init__(Handler)
        self.peers = peers


@pytest.fixture
def keep_alive_server() -> Iterator[KeepAliveServer]:
    server = KeepAliveServer()
    yield server
    server.stop()


@pytest.mark.parametrize(("idle_seconds", "connections"), [(0.5, 1), (1.5, 2), (5, 2)])
def test_idle_connection_is_not_reused(
    keep_alive_server: KeepAliveServer, monkeypatch: pytest.MonkeyPatch, idle_seconds: float, connections: int
) -> None:
    """The server may close it at any moment, which would lose the request."""
    url = f"{keep_alive_server.origin}/v1"
    now = time.monotonic()
    monkeypatch.setattr("siliconflow_provider.api.connections.monotonic", lambda: now)
    with Session(BearerAuth("sk-abc", url)) as session:
        session.get(url, timeout=5)
        now += idle_seconds
        session.get(url, timeout=5)
    assert len(set(keep_alive_server.peers)) == connections
