from __future__ import annotations

import hashlib
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from siliconflow_provider.api.client import SiliconFlowClient

KEY = "sk-very-secret-key-0123456789"
SIGNATURE = "c2VjcmV0LXNpZ25hdHVyZQ"
KEPT_BYTES = 1 << 16


@dataclass
class Received:
    """A received request. Only the beginning of a long body is kept."""

    method: str
    target: str
    headers: dict[str, str]
    size: int
    sha256: str
    body: bytes

    @property
    def key(self) -> str | None:
        return self.headers.get("authorization")


@dataclass
class Answer:
    """Bytes to send unchanged. Afterwards the connection is closed, reset, or kept open."""

    parts: Iterable[bytes] = ()
    ending: Literal["close", "reset", "hang"] = "close"


# A planned response may be a function of the request that returns the parts.
Reply = Answer | Callable[[Received], Iterable[bytes]]


@dataclass
class ScriptedServer:
    """Sends the planned responses in order over raw sockets, and records the requests.

    `always` is the response if no other is planned.
    """

    port: int = 0
    wrap: Callable[[socket.socket], socket.socket] | None = None
    received: list[Received] = field(default_factory=list)
    script: list[Reply] = field(default_factory=list)
    always: Reply | None = None

    def __post_init__(self) -> None:
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False

        self._released = threading.Event()
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def signed_url(self) -> str:
        return f"{self.origin}/results/file-out?Expires=1800000060&Signature={SIGNATURE}"

    def asked(self) -> list[str]:
        """Return the requests without their queries."""
        return [f"{request.method} {request.target.partition('?')[0]}" for request in self.received]

    def json(self, body: Any, status: int = 200, **headers: str) -> ScriptedServer:
        return self.text(json.dumps(body), status, content_type="application/json", **headers)

    def text(self, body: str | bytes, status: int = 200, **headers: str) -> ScriptedServer:
        self.script.append(Answer([whole(body.encode() if isinstance(body, str) else body, status, headers)]))
        return self

    def raw(self, *parts: bytes, ending: Literal["close", "reset", "hang"] = "close") -> ScriptedServer:
        self.script.append(Answer(parts, ending))
        return self

    def resets(self) -> ScriptedServer:
        return self.raw(ending="reset")

    def hangs(self) -> ScriptedServer:
        return self.raw(ending="hang")

    def cut(self, body: bytes, promised: int) -> ScriptedServer:
        return self.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % promised, body)

    def redirects(self, location: str, status: int = 302) -> ScriptedServer:
        return self.text("", status, location=location)

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.wrap is not None:
                connection = self.wrap(connection)
            with connection.makefile("rb") as stream:
                received = self._read(stream)
            reply = self.script.pop(0) if self.script else self.always
            answer = Answer(reply(received)) if callable(reply) else reply
            self._send(connection, answer or Answer([whole(b'"nothing is lined up"', 418, {})]))
        except OSError:
            pass

    def _read(self, stream: Any) -> Received:
        method, target, _ = stream.readline().decode().split(" ")
        headers = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        left, digest, kept = int(headers.get("content-length", 0)), hashlib.sha256(), b""
        size = left
        while left:
            block = stream.read(min(left, KEPT_BYTES))
            if not block:
                raise ConnectionError
            left -= len(block)
            digest.update(block)
            kept = kept or block
        received = Received(method, target, headers, size, digest.hexdigest(), kept)
        self.received.append(received)
        return received

    def _send(self, connection: socket.socket, answer: Answer) -> None:
        for part in answer.parts:
            connection.sendall(part)
        if answer.ending == "hang":
            self._released.wait(10)
        if answer.ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.shutdown(socket.SHUT_WR)


def whole(body: bytes, status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Some reason", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def start_server() -> Iterator[Callable[..., ScriptedServer]]:
    """Return a function that starts scripted servers, each with its own origin."""
    running: list[ScriptedServer] = []

    def start(**arguments: Any) -> ScriptedServer:
        running.append(ScriptedServer(**arguments))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def server(start_server: Callable[..., ScriptedServer]) -> ScriptedServer:
    """Return the server at the API's origin."""
    return start_server()


@pytest.fixture
def storage(start_server: Callable[..., ScriptedServer]) -> ScriptedServer:
    """Return a server at another origin, such as an object storage."""
    return start_server()


@pytest.fixture
def key() -> str:
    """Return the API key of `caller`. Only the API's origin may receive it."""
    return KEY


@pytest.fixture
def signature() -> str:
    """Return the secret of every signed URL. It must not be shown."""
    return SIGNATURE


@pytest.fixture
def caller(server: ScriptedServer, held_time: Any) -> SiliconFlowClient:
    """Return a client of the scripted server, with a held clock."""
    return SiliconFlowClient(KEY, server.base_url)


@pytest.fixture
def refused_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture
def batch_json() -> Callable[..., dict[str, Any]]:
    """Return a function that makes a batch object in the service's form."""

    def make(batch_id: str = "batch_rdyqgrcgjg", **fields: Any) -> dict[str, Any]:
        moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": batch_id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": None,
            "input_file_id": "file-jkvytbjtow",
            "completion_window": "24h",
            "status": "in_queue",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": 1741685413,
            "expires_at": 1741771813,
            **dict.fromkeys((f"{phase}_at" for phase in moments), None),
            "request_counts": None,
            "metadata": {"description": "nightly eval job"},
        } | fields

    return make


@pytest.fixture
def sparse(tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that makes a sparse file of a size."""

    def make(size: int) -> Path:
        path = tmp_path / "sparse.jsonl"
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make
