"""HTTP servers of this machine, for responses that no emulator gives."""

from __future__ import annotations

import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from siliconflow_provider.api import clock


class QuietHandler(BaseHTTPRequestHandler):
    """Handle requests by the provider's clock, and without a line on the terminal for each."""

    def log_message(self, *arguments: Any) -> None: ...

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the `Date` header. The day's date would move a provider that lives by a held clock."""
        return formatdate(clock.now().timestamp(), usegmt=True)


class LocalServer:
    """A server on a free port, in a thread of its own."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
