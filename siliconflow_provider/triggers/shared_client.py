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
from siliconflow_provider.api.errors import AuthenticationError
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

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
        """Return the client; reads the connection when there is none yet."""
        with self._lock:
            if self._client is None:
                self._client, self._read_at = SiliconFlowHook(self._conn_id).get_conn(), clock.now()
            return self._client

    def ask(self, request: Callable[[SiliconFlowClient], T]) -> T:
        """Return what the request does, with a key that is not out of date."""
        client = self.get()
        try:
            return request(client)
        except AuthenticationError:
            renewed = self._renewed(client)
            if renewed is client:
                raise
        return request(renewed)

    def _renewed(self, refused: SiliconFlowClient) -> SiliconFlowClient:
        with self._lock:
            now = clock.now()
            if refused is self._client and self._read_at is not None and now - self._read_at >= SHORTEST_AGE:
                self._read_at = now
                try:
                    self._client = SiliconFlowHook(self._conn_id).get_conn()
                except Exception as error:
                    log.warning("connection %r could not be read anew: %s", self._conn_id, error)
            return self._client or refused
