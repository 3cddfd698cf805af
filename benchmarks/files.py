"""One file of 1 GB up and down: the client beside a bare socket that copies the same bytes from and to the same disk.

Each transfer runs in a process of its own, against a process that does nothing but take and give bytes. Seconds are
the best of three, the memory is the most that a transfer needed above the level after its imports.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 1_000_000_000
BLOCK = 1 << 16
ROUNDS = 3


def serve() -> None:
    """Take what comes with POST, give 1 GB for GET; a request without HTTP is a bare one."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    lines = (b'{"custom_id": "%07d", "body": "' + b"x" * 968 + b'"}\n') % 1
    block = (lines * (BLOCK // len(lines) + 1))[:BLOCK]
    while True:
        connection, _ = listening.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(BLOCK)
            head, _, body = head.partition(b"\r\n\r\n")
            is_http = b"HTTP/1.1" in head
            if head.startswith(b"POST"):
                promised = next(each for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:"))
                take(connection, int(promised.partition(b":")[2]) - len(body))
                answer = b'{"id": "file-1"}'
                if is_http:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
                connection.sendall(answer)
            else:
                if is_http:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                for left in range(SIZE, 0, -BLOCK):
                    connection.sendall(block[:left])


def take(connection: socket.socket, left: int) -> None:
    """Read so many bytes and forget them."""
    buffer = bytearray(1 << 20)
    while left:
        left -= connection.recv_into(buffer, min(left, len(buffer)))


def client_action(name: str, port: int, path: Path) -> Callable[[], object]:
    """Return the client's transfer; its imports are done."""
    from siliconflow_provider.api.client import SiliconFlowClient

    client = SiliconFlowClient("sk-benchmark", f"http://127.0.0.1:{port}/v1")
    if name == "upload":
        return lambda: client.upload_file(path)

    def download() -> None:
        with path.open("wb") as file:
            client.download("file-1", file)

    return download


def bare_action(name: str, port: int, path: Path) -> Callable[[], object]:
    """Return the same transfer over a bare socket."""

    def upload() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb") as file:
            connection.sendall(b"POST\r\nContent-Length: %d\r\n\r\n" % SIZE)
            while block := file.read(BLOCK):
                connection.sendall(block)
            connection.recv(BLOCK)

    def download() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection, path.open("wb") as file:
            connection.sendall(b"GET\r\n\r\n")
            while block := connection.recv(BLOCK):
                file.write(block)

    return upload if name == "upload" else download


def mebibytes(field: str) -> float:
    """Return this process's memory now (`VmRSS`) or at its peak (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def transfer(kind: str, name: str, port: int, path: Path) -> None:
    """Run one transfer and print its seconds and its MiB."""
    action = {"client": client_action, "bare": bare_action}[kind](name, port, path)
    before, started = mebibytes("VmRSS"), time.perf_counter()
    action()
    print(time.perf_counter() - started, mebibytes("VmHWM") - before)


@contextmanager
def peer() -> Iterator[int]:
    """Run the other side in a process of its own, and give its port."""
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def measure(kind: str, name: str, port: int, path: Path) -> tuple[float, float]:
    """Return the seconds and the MiB of one transfer in a process of its own."""
    command = [sys.executable, __file__, kind, name, str(port), str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def main() -> None:
    """Print the table."""
    print(f"{'1 GB':<10}{'client s':>10}{'MB/s':>8}{'MiB':>7}{'bare s':>10}{'MB/s':>8}{'MiB':>7}{'times as long':>16}")
    with tempfile.TemporaryDirectory() as directory, peer() as port:
        path = Path(directory) / "file.jsonl"
        # The file that is downloaded is the one that is uploaded.
        for name in ("download", "upload"):
            found = [[measure(kind, name, port, path) for kind in ("client", "bare")] for _ in range(ROUNDS)]
            row = [(min(each)[0], max(memory for _, memory in each)) for each in zip(*found, strict=True)]
            columns = "".join(f"{each:>10.2f}{SIZE / each / 1e6:>8.0f}{memory:>7.1f}" for each, memory in row)
            print(f"{name:<10}{columns}{row[0][0] / row[1][0]:>16.2f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif sys.argv[1:]:
        transfer(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
