"""The log of requests and responses, without queries, headers and bodies."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRACE_HEADER = b"x-siliconcloud-trace-id"


class RequestLog:
    """Write JSON lines to a file, each flushed at once; with `printing`, also a short line per response to stdout."""

    def __init__(self, path: Path, clock: Callable[[], float], *, printing: bool) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._clock = clock
        self._printing = printing
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file. Later lines are dropped."""
        with self._lock:
            self._file.close()

    def received(self, request_id: str, method: str, path: str) -> None:
        """Log a received request."""
        self._write("received", {"id": request_id, "method": method, "path": path})

    def answered(self, request_id: str, method: str, path: str, status: int | None, milliseconds: float) -> None:
        """Log a response. The status is None if the connection was closed before."""
        answer = {"status": status, "milliseconds": round(milliseconds, 1)}
        self._write("answered", {"id": request_id, "method": method, "path": path} | answer)
        if self._printing:
            self._print(f"{self._now():%H:%M:%S} {method} {path} {status} {milliseconds:.0f} ms")

    def date(self) -> str:
        """Return the current time in HTTP's format."""
        return formatdate(self._clock(), usegmt=True)

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:  # stdout is closed
            self._printing = False

    def _write(self, event: str, fields: dict[str, Any]) -> None:
        time_text = self._now().isoformat(timespec="milliseconds")
        line = json.dumps({"time": time_text, "event": event} | fields) + "\n"
        with self._lock:
            if not self._file.closed:
                self._file.write(line)
                self._file.flush()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


class LoggedApp:
    """Logs the requests of an application, and adds a trace id and the emulator's date to its responses."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        # In the raw path, an encoded line break stays encoded.
        method, path = scope["method"], scope["raw_path"].decode("ascii", "replace")
        status: int | None = None
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(TRACE_HEADER, request_id.encode()), (b"date", self._log.date().encode())]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        self._log.received(request_id, method, path)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            elapsed = (time.perf_counter() - started) * 1000
            self._log.answered(request_id, method, path, status, elapsed)
