from __future__ import annotations

import datetime
import io
import ipaddress
import logging
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from siliconflow_provider.api import clock as provider_clock
from siliconflow_provider.api import errors, transport
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.transport import Transport


@pytest.fixture
def pauses(held_time: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list of sleeps in seconds, without jitter."""
    slept: list[float] = []
    monkeypatch.setattr(provider_clock, "sleep", slept.append)
    monkeypatch.setattr(transport.random, "random", lambda: 0.0)
    return slept


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with an untrusted certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def tls(certificate: Path) -> Callable[[socket.socket], socket.socket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return lambda connection: context.wrap_socket(connection, server_side=True)


class BreaksRecords:
    """Run a TLS server that reads a request and then sends invalid TLS."""

    def __init__(self, secured: ssl.SSLSocket) -> None:
        self._secured = secured

    def makefile(self, mode: str) -> Any:
        return self._secured.makefile(mode)

    def sendall(self, data: bytes) -> None:
        with socket.socket(fileno=self._secured.detach()) as bare:
            bare.sendall(b"\x17\x03\x03" + struct.pack(">H", 32) + b"x" * 32)

    def shutdown(self, how: int) -> None: ...


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeout_must_be_positive(timeout: float) -> None:
    with pytest.raises(errors.InvalidRequestError, match=f"^timeout is {timeout}: give a positive number of seconds"):
        Transport("sk-abc", "http://127.0.0.1:1/v1", timeout=timeout, max_retries=0)


@pytest.mark.parametrize(("timeout", "used"), [(60, (10, 60)), (3, (3, 3))])
def test_connect_timeout_is_at_most_ten_seconds(timeout: float, used: tuple[float, float]) -> None:
    assert Transport("sk-abc", "http://127.0.0.1:1/v1", timeout=timeout, max_retries=0)._timeout == used


def test_response_may_take_longer_than_connecting(
    server: Any, held_time: Any, key: str, batch_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(request: Any) -> list[bytes]:
        time.sleep(0.3)
        return soon.parts

    monkeypatch.setattr(transport, "LONGEST_CONNECT_TIMEOUT", 0.1)
    soon = server.json(batch_json()).script.pop()
    server.script.append(late)
    assert SiliconFlowClient(key, server.base_url, timeout=5, max_retries=0).get_batch("batch_1").status == "in_queue"


def test_read_is_retried_with_growing_pauses(
    server: Any, caller: SiliconFlowClient, pauses: list[float], batch_json: Any
) -> None:
    server.json("busy", 503).resets().cut(b"{", 2).text("<html>").json(batch_json())
    assert caller.get_batch("batch_1").id == "batch_rdyqgrcgjg"
    assert len(server.received) == 5
    assert pauses == [0.5, 1, 2, 4]


def test_last_error_is_raised_after_all_retries(server: Any, caller: SiliconFlowClient, pauses: list[float]) -> None:
    for number in range(6):
        server.json(f"busy {number}", 503)
    with pytest.raises(errors.ServerError, match="busy 5"):
        caller.get_batch("batch_1")
    assert (len(server.received), pauses) == (6, [0.5, 1, 2, 4, 8])


def test_no_retries_means_one_request(server: Any, held_time: Any, key: str, pauses: list[float]) -> None:
    server.json("busy", 503)
    with pytest.raises(errors.ServerError):
        SiliconFlowClient(key, server.base_url, max_retries=0).get_batch("batch_1")
    assert (len(server.received), pauses) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_refused_request_is_not_retried(
    server: Any, caller: SiliconFlowClient, pauses: list[float], status: int
) -> None:
    server.json("no", status)
    with pytest.raises(errors.ServiceError):
        caller.get_batch("batch_1")
    assert (len(server.received), pauses) == (1, [])


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("7", 7),
        ("3600", 120),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 29.75),
        ("Fri, 15 Jan 2027 10:00:00 GMT", 120),
        ("soon", 0.5),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_pause_follows_retry_after(
    server: Any,
    caller: SiliconFlowClient,
    pauses: list[float],
    batch_json: Any,
    header: str,
    pause: float,
    status: int,
) -> None:
    server.json("slow down", status, retry_after=header).json(batch_json())
    caller.get_batch("batch_1")
    assert pauses == [pause]


def test_retry_is_logged_with_reason_and_pause(
    server: Any, caller: SiliconFlowClient, pauses: list[float], batch_json: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server.json("busy", 503).json(batch_json())
    caller.get_batch("batch_1")
    refused = f"GET /batches/batch_1 at 127.0.0.1:{server.port} was refused: busy (status 503)"
    assert caplog.messages == [f"{refused}; attempt 1 of 6 failed, retrying in 0.5 s"]


def test_untrusted_certificate_is_not_retried(
    start_server: Any, held_time: Any, certificate: Path, pauses: list[float], key: str
) -> None:
    secure = start_server(wrap=tls(certificate))
    client = SiliconFlowClient(key, f"https://127.0.0.1:{secure.port}/v1")
    with pytest.raises(errors.CertificateError, match=r" at 127\.0\.0\.1:\d+: the TLS certificate was not accepted"):
        client.get_batch("batch_1")
    assert (secure.received, pauses) == ([], [])


def refuse_tls(connection: socket.socket) -> socket.socket:
    """Answer the TLS handshake as a server does that speaks HTTP only."""
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    raise ConnectionError


def test_plain_http_is_named_at_once(start_server: Any, held_time: Any, pauses: list[float], key: str) -> None:
    server = start_server(wrap=refuse_tls)
    client = SiliconFlowClient(key, f"https://127.0.0.1:{server.port}/v1", url_label="connection 'sf'")
    named = r"the server speaks HTTP, not HTTPS \(SSLError: .*\): write http:// in the base URL of connection 'sf'"
    with pytest.raises(errors.PlainHttpError, match=named):
        client.get_batch("batch_1")
    assert pauses == []


def test_plain_http_proxy_is_not_the_servers(
    start_server: Any, held_time: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(wrap=refuse_tls)
    monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{server.port}")
    with pytest.raises(errors.ConnectionFailedError) as caught:
        SiliconFlowClient(key, max_retries=0).get_batch("batch_1")
    assert "no connection (" in caught.value.message


def test_trusted_certificate_is_accepted(
    start_server: Any, held_time: Any, certificate: Path, key: str, batch_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure = start_server(wrap=tls(certificate)).json(batch_json())
    assert SiliconFlowClient(key, f"https://127.0.0.1:{secure.port}/v1").get_batch("batch_1").status == "in_queue"


def test_broken_tls_makes_a_create_uncertain(
    start_server: Any, held_time: Any, certificate: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This TLS error is not about a certificate: the service has read the whole request."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    wrap = tls(certificate)
    secure = start_server(wrap=lambda connection: BreaksRecords(wrap(connection)))  # type: ignore[arg-type]
    secure.json({})
    with pytest.raises(errors.CreateUncertainError):
        SiliconFlowClient(key, f"https://127.0.0.1:{secure.port}/v1").create_batch("file-1")
    assert secure.asked() == ["POST /v1/batches"]


def test_https_api_needs_https_results(
    start_server: Any, server: Any, held_time: Any, certificate: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure = start_server(wrap=tls(certificate)).redirects(server.signed_url)
    client = SiliconFlowClient(key, f"https://127.0.0.1:{secure.port}/v1")
    for file_ref in ("file-1", server.signed_url):
        with pytest.raises(errors.UnsafeAddressError, match=r"^the result URL at \S+ uses http, but the API"):
            client.download(file_ref, io.BytesIO())
    assert (secure.asked(), server.received) == (["GET /v1/files/file-1/content"], [])


def forward(request: Any) -> list[bytes]:
    """Forward a plain request to the host in its URL, as a proxy does."""
    _, _, host, path = request.target.split("/", 3)
    name, _, port = host.partition(":")
    lines = [f"{request.method} /{path} HTTP/1.1", *(f"{name}: {text}" for name, text in request.headers.items())]
    with socket.create_connection((name, int(port))) as upstream:
        upstream.sendall("\r\n".join([*lines, "", ""]).encode() + request.body)
        return list(iter(lambda: upstream.recv(1 << 16), b""))


@pytest.fixture
def proxy(start_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a proxy for plain HTTP. The environment does not name it yet."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return start_server(always=forward)


def test_proxy_of_the_environment_is_used(
    server: Any, storage: Any, proxy: Any, caller: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.origin)
    server.json({"id": "file-1"}).redirects(storage.signed_url)
    storage.text("result")
    caller.upload_file(io.BytesIO(b"{}"))
    caller.download("file-1", io.BytesIO())
    paths = [f"{server.base_url}/files", f"{server.base_url}/files/file-1/content", storage.signed_url]
    assert [request.target for request in proxy.received] == paths
    assert [request.key for request in proxy.received] == [f"Bearer {key}"] * 2 + [None]
    assert b'name="purpose"' in server.received[0].body


@pytest.mark.parametrize("hosts", ["127.0.0.1", "*", "example.com,127.0.0.0/8"])
def test_no_proxy_hosts_are_requested_directly(
    server: Any, proxy: Any, caller: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch, batch_json: Any, hosts: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.origin)
    monkeypatch.setenv("NO_PROXY", hosts)
    server.json(batch_json())
    assert caller.get_batch("batch_1").status == "in_queue"
    assert proxy.received == []


def test_broken_proxy_makes_a_create_uncertain(
    server: Any, held_time: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.origin)
    server.resets()
    with pytest.raises(errors.CreateUncertainError):
        SiliconFlowClient(key, "http://api.invalid/v1").create_batch("file-1")
    assert [request.method for request in server.received] == ["POST"]


def test_unreachable_proxy_means_nothing_was_sent(
    refused_port: int, held_time: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port}")
    with pytest.raises(errors.ConnectionFailedError, match="Connection refused"):
        SiliconFlowClient(key, "http://api.invalid/v1").create_batch("file-1")


def test_refused_tunnel_means_nothing_was_sent(
    server: Any, held_time: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", server.origin)
    server.text("who are you", 407)
    with pytest.raises(errors.ConnectionFailedError, match="Tunnel connection failed: 407"):
        SiliconFlowClient(key, "https://api.invalid/v1", max_retries=0).create_batch("file-1")
    assert [request.key for request in server.received] == [None]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"{", b"\xff\xfe\x00", b"[" * 3],
)
def test_success_without_json_is_unreadable(server: Any, caller: SiliconFlowClient, body: bytes) -> None:
    for _ in range(6):
        server.text(body, x_request_id="trace-1")
    with pytest.raises(errors.UnreadableAnswerError) as caught:
        caller.get_batch("batch_1")
    assert str(caught.value) == (
        f"GET /batches/batch_1 at 127.0.0.1:{server.port} was answered with {len(body)} bytes that are not JSON: "
        "check the base URL (status 200, request id trace-1)"
    )


def test_success_with_an_error_code_is_bad_request(server: Any, caller: SiliconFlowClient) -> None:
    server.json({"code": 20012, "message": "no such batch", "data": None})
    with pytest.raises(errors.BadRequestError) as caught:
        caller.get_batch("batch_1")
    assert str(caught.value) == (
        f"GET /batches/batch_1 at 127.0.0.1:{server.port} was refused: no such batch (status 200, code 20012)"
    )
    assert len(server.received) == 1


def test_error_has_no_exception_of_requests(server: Any, caller: SiliconFlowClient) -> None:
    for _ in range(6):
        server.resets()
    with pytest.raises(SiliconFlowError) as caught:
        caller.get_batch("batch_1")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
