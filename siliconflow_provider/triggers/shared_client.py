"""Share one client among all requests of a watcher, and replace it when its key is rejected."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from threading import Lock
from typing import TypeVar

import pendulum

from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import AuthenticationError, SiliconFlowError
from siliconflow_provider.triggers.connection import read_client

log = logging.getLogger(__name__)

SHORTEST_AGE = timedelta(minutes=1)

T = TypeVar("T")


class SharedClient:
    """Client of a connection for several threads.

    If the service rejects the key, the connection is read again, at most once a minute.
    """

    def __init__(self, siliconflow_conn_id: str) -> None:
        self._conn_id = siliconflow_conn_id
        self._lock = Lock()
        self._client: SiliconFlowClient | None = None
        self._read_at: pendulum.DateTime | None = None

    def get(self) -> SiliconFlowClient:
        """Return the client. Reads the connection if there is no client yet.

        :raises SiliconFlowError: if reading fails, as `read_client` describes
        """
        with self._lock:
            if self._client is None:
                self._client, self._read_at = read_client(self._conn_id), clock.now()
            return self._client

    def now(self) -> pendulum.DateTime:
        """Return the current time (UTC) by the service's clock, or by ours if there is no client. Does not block."""
        client = self._client
        return clock.now() if client is None else client.now()

    def ask(self, request: Callable[[SiliconFlowClient], T]) -> T:
        """Return the result of a request. If its key is rejected, read the connection again and resend the request."""
        client = self.get()
        try:
            return request(client)
        except AuthenticationError:
            renewed = self._client_with_new_key(client)
            if renewed is client:
                raise
        return request(renewed)

    def _client_with_new_key(self, refused: SiliconFlowClient) -> SiliconFlowClient:
        with self._lock:
            now = clock.now()
            if refused is self._client and self._read_at is not None and now - self._read_at >= SHORTEST_AGE:
                self._read_at = now
                try:
                    self._client = read_client(self._conn_id)
                except SiliconFlowError as error:
                    log.warning("the service rejected the key, and reading the connection again failed: %s", error)
            return self._client or refused
