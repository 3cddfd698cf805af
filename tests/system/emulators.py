"""An emulator as a process, and what its request log says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any, Self

import requests

from siliconflow_provider.emulator.endpoints import API_PREFIX, endpoint_of
from tests.system.processes import Component


class EmulatorProcess:
    """As a context manager: an emulator with its control interface, beside that of `Components`.

    :param folder: a new directory for its data
    :param arguments: for its command line
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self._arguments = folder, arguments
        self.origin: str
        self._command: list[str]
        self._component: Component

    def __enter__(self) -> Self:
        port, storage_port = free_ports(2)
        self.origin = f"http://127.0.0.1:{port}"
        ports = ["--port", str(port), "--storage-port", str(storage_port)]
        self._command = [sys.executable, "-m", "siliconflow_provider.emulator", "--control", *ports]
        self._command += ["--data-dir", str(self.folder), *self._arguments]
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Go on with what the directory has, on the same ports."""
        log = self.folder.with_suffix(".log")
        self._component = Component("emulator", self._command, os.environ, log)
        while "Ctrl-C stops it." not in self._component.log:
            assert self._component.is_running(), self._component.log
            time.sleep(0.05)

    def kill(self) -> int:
        """SIGKILL; returns what its process ended with."""
        return self._component.kill()

    def renew(self) -> None:
        """Start one that knows of nothing, on the same ports."""
        self.kill()
        shutil.rmtree(self.folder)
        self.start()

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the control interface."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"{self.origin}/control{path}", json=body or {}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def requests(self, event: str, endpoint: str) -> list[dict[str, Any]]:
        """What its request log has of an endpoint such as `GET /batches`: the `received` or the `answered`."""
        found = [each for each in logged_requests(self.folder) if each["event"] == event]
        return [each for each in found if _endpoint(each) == endpoint]


def logged_requests(folder: Path) -> list[dict[str, Any]]:
    """The JSON lines of the request log in an emulator's directory."""
    lines = (folder / "requests.log").read_text().splitlines()
    return [json.loads(each) for each in lines if each.endswith("}")]  # the last may be half


def _endpoint(entry: dict[str, Any]) -> str | None:
    return endpoint_of(f"{entry['method']} {entry['path'].removeprefix(API_PREFIX)}")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
