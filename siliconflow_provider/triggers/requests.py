"""The requests of a watcher. They run in threads of its own, outside of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pendulum

from siliconflow_provider import metrics
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import AnswerLostError, SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.triggers.shared_client import SharedClient
from siliconflow_provider.triggers.threads import run_in_thread

MOST_REQUESTS = 4
# A response that never ends, or a long Retry-After, must not delay the other waits.
LONGEST_ANSWER_SECONDS = 90.0

T = TypeVar("T")


class WatcherRequests:
    """Send requests with the client of a connection. Reading the connection is one of the blocking actions."""

    def __init__(self, siliconflow_conn_id: str) -> None:
        self._conn_id = siliconflow_conn_id
        self._client = SharedClient(siliconflow_conn_id)
        self._pool = ThreadPoolExecutor(MOST_REQUESTS, thread_name_prefix=f"siliconflow-{siliconflow_conn_id}")

    def close(self) -> None:
        """Start no further request."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def now(self) -> pendulum.DateTime:
        """Return the current time (UTC) by the service's clock. Does not block."""
        return self._client.now()

    async def connection_error(self) -> SiliconFlowError | None:
        """Return the error if the connection cannot be read, else None."""
        try:
            await self._in_thread(self._client.get)
        except SiliconFlowError as error:
            return error
        return None

    async def page(self, after: str | None) -> tuple[list[Batch], str | None]:
        """Return a page of the list, and the `after` of the next one; see `SiliconFlowClient.batch_page`."""
        return await self._ask("list", lambda client: client.batch_page(after))

    async def batch(self, batch_id: str) -> Batch | Exception:
        """Return a batch, or the error of the request."""
        try:
            return await self._ask("single", lambda client: client.get_batch(batch_id))
        except Exception as error:
            return error

    async def _ask(self, kind: str, request: Callable[[SiliconFlowClient], T]) -> T:
        try:
            answer = await self._in_thread(lambda: self._client.ask(request))
        except Exception as error:
            metrics.count_poll(self._conn_id, kind, error)
            raise
        metrics.count_poll(self._conn_id, kind, None)
        return answer

    async def _in_thread(self, action: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(LONGEST_ANSWER_SECONDS):
                return await run_in_thread(self._pool, action)
        except TimeoutError:
            raise AnswerLostError(f"no response within {LONGEST_ANSWER_SECONDS:g} s") from None
