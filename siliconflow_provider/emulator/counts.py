"""Count responses by endpoint and status."""

from __future__ import annotations

import threading
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siliconflow_provider.emulator.endpoints import API_PREFIX, ENDPOINTS, endpoint_of


class AnswerCounts:
    """The counts since the emulator object was created. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[int | None]] = {endpoint: Counter() for endpoint in ENDPOINTS}

    def add(self, request: str, status: int | None) -> None:
        """Count a response. The status is None if the connection was closed without a response."""
        endpoint = endpoint_of(request)
        if endpoint is not None:
            with self._lock:
                self._counts[endpoint][status] += 1

    def by_endpoint(self) -> dict[str, Counter[int | None]]:
        """Return a copy: the number of responses by status for each endpoint."""
        with self._lock:
            return {endpoint: counter.copy() for endpoint, counter in self._counts.items()}


class CountedApp:
    """Counts the responses of an application, each before the client can receive it."""

    def __init__(self, app: ASGIApp, counts: AnswerCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = f"{scope['method']} {scope['path'].removeprefix(API_PREFIX)}"
        counted = False

        async def counting(message: Message) -> None:
            nonlocal counted
            if message["type"] == "http.response.start":
                counted = True
                self._counts.add(request, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            if not counted:
                self._counts.add(request, None)
