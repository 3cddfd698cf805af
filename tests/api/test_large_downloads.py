"""Large downloads, which stream and survive many interruptions."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient

CONTENT = bytes(range(40))
CHUNK = 7
LARGE = 64 * 1024 * 1024
LITTLE = 8 * 1024 * 1024


def answer(status: int, body: bytes, *, promised: int | None = None, **headers: str) -> bytes:
    """Return a response with its Content-Length, or another one."""
    length = f"Content-Length: {len(body) if promised is None else promised}"
    lines = [f"HTTP/1.1 {status} Some reason", length, "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def offset_of(request: Any) -> int:
    """Return the offset of a request."""
    return int(request.headers.get("range", "bytes=0-")[6:-1])


def fetched(client: SiliconFlowClient, file_ref: str = "file-1") -> bytes:
    fileobj = io.BytesIO()
    assert client.download(file_ref, fileobj) == len(fileobj.getvalue())
    return fileobj.getvalue()


def test_often_interrupted_large_download_streams(
    server: Any, caller: SiliconFlowClient, tmp_path: Path, peak_of: Any
) -> None:
    block = bytes(1 << 20)

    def reply(request: Any) -> list[bytes]:
        offset = offset_of(request)
        size = LARGE - offset
        head = answer(206, b"", promised=size, content_range=f"bytes {offset}-{LARGE - 1}/{LARGE}")
        blocks = [block] * min(8, size // len(block)) + [block[: size % len(block)]]
        return [head if offset else answer(200, b"", promised=size), *blocks]

    server.always = reply
    path = tmp_path / "out.jsonl"
    with path.open("wb") as file:
        assert peak_of(lambda: caller.download("file-1", file)) < LITTLE
    assert path.stat().st_size == LARGE
    assert len(server.received) >= 8


@pytest.fixture
def flaky(emulator: Any) -> Iterator[Callable[[str], str]]:
    """Replace the address in a URL by that of a relay that closes each connection after 200,000 bytes."""
    with contextlib.ExitStack() as stack:

        def relayed(url: str) -> str:
            scheme, _, host, rest_of_url = url.split("/", 3)
            name, _, port = host.partition(":")

            class Handler(socketserver.BaseRequestHandler):
                def handle(self) -> None:
                    with socket.create_connection((name, int(port))) as upstream:
                        upstream.sendall(self.request.recv(1 << 16))
                        left = 200_000
                        while left and (block := upstream.recv(min(left, 1 << 14))):
                            self.request.sendall(block)
                            left -= len(block)

            relay = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
            relay.daemon_threads = True
            stack.callback(relay.server_close)
            stack.callback(relay.shutdown)
            threading.Thread(target=relay.serve_forever, args=(0.01,), daemon=True).start()
            return f"{scheme}//127.0.0.1:{relay.server_address[1]}/{rest_of_url}"

        yield relayed


def test_downloads_survive_a_breaking_relay(
    client: SiliconFlowClient, emulator: Any, clock: Any, sums: Any, flaky: Any
) -> None:
    lines = sums(4000)
    file = client.upload_file(io.BytesIO(lines))
    assert fetched(SiliconFlowClient(emulator.api_key, flaky(emulator.base_url)), file.id) == lines
    batch = client.create_batch(file.id)
    clock.advance(120)
    results = client.get_batch(batch.id).output_file_id or ""
    straight = fetched(client, results)
    assert fetched(client, flaky(results)) == straight
    log = (emulator.data_dir / "requests.log").read_text().splitlines()
    paths = [entry["path"] for entry in map(json.loads, log) if entry["event"] == "received"]
    assert paths.count(f"/v1/files/{file.id}/content") > len(lines) // 200_000
    assert len([path for path in paths if path.startswith("/results/")]) > 1 + len(straight) // 200_000
