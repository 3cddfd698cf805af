"""One client for all requests of a watcher, which outlives the key that it was built with."""

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
    """A connection's client for several threads; a key that is refused is read anew, once a minute at most."""

    def __init__(self, siliconflow_conn_id: str) -> None:
        self._conn_id = siliconflow_conn_id
        self._lock = Lock()
        self._client: SiliconFlowClient | None = None
        self._read_at: pendulum.DateTime | None = None

    def get(self) -> SiliconFlowClient:
        """Return the client; reads the connection while there is none yet.

        :raises SiliconFlowError: when that fails, as `read_client` says
        """
        with self._lock:
            if self._client is None:
                self._client, self._read_at = read_client(self._conn_id), clock.now()
            return self._client

    def now(self) -> pendulum.DateTime:
        """Return the present moment (UTC) by the service's clock, by ours while there is no client. Does not block."""
        client = self._client
        return clock.now() if client is None else client.now()

    def ask(self, request: Callable[[SiliconFlowClient], T]) -> T:
        """Return what the request does, with a key that is not out of date."""
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
                    log.warning("the key is refused, and reading it again failed: %s", error)
            return self._client or refused
