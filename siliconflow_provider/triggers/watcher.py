"""Poll the service once for all triggers of an event loop that wait on the same connection."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from dataclasses import replace
from math import inf
from typing import TypeVar
from weakref import WeakValueDictionary

from siliconflow_provider import metrics
from siliconflow_provider.api import clock
from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import (
    AnswerLostError,
    AuthenticationError,
    ConnectionFailedError,
    NotFoundError,
    RateLimitError,
    ServerError,
    SiliconFlowError,
)
from siliconflow_provider.api.models import Batch
from siliconflow_provider.triggers.shared_client import SharedClient
from siliconflow_provider.triggers.threads import run_in_thread
from siliconflow_provider.triggers.watch import Watch
from siliconflow_provider.waiting import (
    BatchWait,
    batch_from_list_item,
    count_on_later_pages,
    due_batches,
    is_page_worthwhile,
)

MOST_REQUESTS = 4
# With four concurrent requests, this is at most 40 requests a second.
REQUEST_SPACING = 0.1
JOIN_SECONDS = 1.0
LIST_PAUSE_SECONDS = 60.0
# Processing a whole page at once, with its triggers, would block the event loop for about 10 ms.
ITEMS_AT_ONCE = 20
MOST_FAILURES = 4
# A response that never ends, or a long Retry-After, must not delay the other waits.
LONGEST_ANSWER_SECONDS = 90.0
ACCOUNT_ERRORS = (AuthenticationError, ConnectionFailedError, RateLimitError)

T = TypeVar("T")


@contextmanager
def watching(siliconflow_conn_id: str, waits: Sequence[BatchWait]) -> Iterator[Watch]:
    """Watch batches, together with those of all other triggers on this event loop and connection.

    Until the context ends, the watcher records every poll in the waits, and schedules their next polls.
    """
    key = (id(asyncio.get_running_loop()), siliconflow_conn_id)
    watcher = _watchers.get(key)
    if watcher is None or watcher.is_stopped:
        watcher = _watchers[key] = BatchWatcher(siliconflow_conn_id)
    watch = watcher.join(waits)
    metrics.count_waits_started(siliconflow_conn_id, len(waits))
    try:
        yield watch
    finally:
        watcher.leave(watch)
        metrics.count_waits_ended(siliconflow_conn_id, [wait.state(watch.now()) for wait in waits])


class BatchWatcher:
    """Poll all awaited batches of one connection until no trigger waits any more.

    Requests run in its own threads, and so does reading the connection. Only the event loop changes its state.
    """

    def __init__(self, siliconflow_conn_id: str) -> None:
        self._conn_id = siliconflow_conn_id
        self._client = SharedClient(siliconflow_conn_id)
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(MOST_REQUESTS, thread_name_prefix=f"siliconflow-{siliconflow_conn_id}")
        self._awaited: dict[str, list[tuple[Watch, BatchWait]]] = {}
        self._notify_later: set[Watch] = set()
        self._polled_at = -inf
        self._jitter = 0.0
        self._list_again_at = -inf
        self._sleeper: asyncio.Task[object] | None = None
        # In its own context, so that log lines do not go into the log of one trigger.
        self._task = self._loop.create_task(self._run(), context=Context())
        self.is_stopped = False

    def join(self, waits: Sequence[BatchWait]) -> Watch:
        """Start to watch the waits. Those that join within the same second are polled together."""
        watch = Watch(waits, self._client.now)
        now = clock.now().timestamp()
        for wait in waits:
            wait.asked_at = now
            wait.due_at = now + min(max(0.0, self._polled_at + JOIN_SECONDS - now), JOIN_SECONDS)
            self._awaited.setdefault(wait.batch_id, []).append((watch, wait))
        if watch.is_over:
            watch.notify()
        if self._sleeper is not None:
            self._sleeper.cancel()
        return watch

    def leave(self, watch: Watch) -> None:
        """Stop watching the waits. The watcher stops after the last one has left."""
        for wait in watch.waits:
            others = [pair for pair in self._awaited.pop(wait.batch_id, []) if pair[0] is not watch]
            if others:
                self._awaited[wait.batch_id] = others
        self._notify_later.discard(watch)
        if not self._awaited:
            self.is_stopped = True
            self._pool.shutdown(wait=False, cancel_futures=True)
            if not self._loop.is_closed():
                self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._sleep_until_due()
                await self._poll_due()
        except Exception as error:
            self.is_stopped = True
            for watch in {watch for pairs in self._awaited.values() for watch, _ in pairs}:
                watch.notify(error)

    async def _sleep_until_due(self) -> None:
        while (pause := self._seconds_until_due()) > 0:
            # If all waits are over, only a new watch can end the pause.
            sleep = clock.sleep_async(pause) if pause < inf else asyncio.Event().wait()
            self._sleeper = self._loop.create_task(sleep)
            try:
                await asyncio.wait([self._sleeper])
            finally:
                self._sleeper.cancel()

    def _seconds_until_due(self) -> float:
        now = clock.now().timestamp()
        return min((wait.seconds_until_due(now) for wait in self._waits()), default=inf)

    def _waits(self) -> Iterator[BatchWait]:
        return (wait for pairs in self._awaited.values() for _, wait in pairs)

    async def _poll_due(self) -> None:
        """Poll all batches that are due."""
        unusable = await self._connection_error()
        now = clock.now().timestamp()
        self._jitter = random.random()  # noqa: S311 - spreads polls, guards nothing
        due = due_batches(self._waits(), now)
        if unusable is not None:
            for batch_id in due:
                self._record_outcome(batch_id, unusable)
            due = []
        if is_page_worthwhile(len(due), 0) and now >= self._list_again_at:
            due = await self._poll_list(due, now)
        await self._poll_singly(due)
        self._polled_at = clock.now().timestamp()
        for watch in self._notify_later:
            watch.notify()
        self._notify_later.clear()

    async def _connection_error(self) -> SiliconFlowError | None:
        """Return the error if the connection cannot be read, else None. Checked before any request is sent."""
        try:
            await self._in_thread(self._client.get)
        except SiliconFlowError as error:
            return error
        return None

    async def _poll_list(self, due: Sequence[str], since: float) -> list[str]:
        """Poll by the list, as long as its pages save requests. Return the ids that must be polled singly."""
        missing = {batch_id: self._awaited[batch_id][0][1] for batch_id in due}
        listed, pages, after = len(missing), 0, None
        while is_page_worthwhile(listed, pages):
            previous_after = after
            try:
                page, after = await self._page(previous_after)
            except Exception as error:
                return self._list_failed(error, list(missing))
            pages += 1
            for number, item in enumerate(page):
                self._record_item(item, missing, since)
                if number % ITEMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            # If the service ignores paging, it returns the same page again.
            if after in (None, previous_after):
                break
            listed = count_on_later_pages(missing, page)
        return list(missing)

    def _record_item(self, item: Batch, missing: dict[str, BatchWait], since: float) -> None:
        if item.id not in self._awaited:
            return
        wait = self._awaited[item.id][0][1]
        batch = batch_from_list_item(item, wait.batch)
        if batch is not None:
            # All batches of one list poll get the same start time, so that they are due together again.
            self._record_outcome(item.id, batch, since)
            missing.pop(item.id, None)
        elif item.is_terminal:
            missing[item.id] = wait

    def _list_failed(self, error: Exception, due: list[str]) -> list[str]:
        if not isinstance(error, ACCOUNT_ERRORS):
            # Only the list may be failing: for a while, poll all batches singly.
            self._list_again_at = clock.now().timestamp() + LIST_PAUSE_SECONDS
        if not isinstance(error, (*ACCOUNT_ERRORS, ServerError, AnswerLostError)):
            return due
        for batch_id in due:
            self._record_outcome(batch_id, error)
        return []

    async def _poll_singly(self, batch_ids: Sequence[str]) -> None:
        remaining, failures = deque(batch_ids), 0

        async def poll_in_turn() -> None:
            nonlocal failures
            while remaining:
                batch_id = remaining.popleft()
                if batch_id not in self._awaited:
                    continue
                answer = await self._answer(batch_id)
                self._record_outcome(batch_id, answer)
                is_outage = isinstance(answer, SiliconFlowError) and not isinstance(answer, NotFoundError)
                failures = failures + 1 if is_outage else 0
                if failures >= MOST_FAILURES:
                    while remaining:
                        self._record_outcome(remaining.popleft(), answer)
                if remaining:
                    await clock.sleep_async(REQUEST_SPACING)

        await asyncio.gather(*(poll_in_turn() for _ in range(min(MOST_REQUESTS, len(remaining)))))

    async def _answer(self, batch_id: str) -> Batch | Exception:
        try:
            return await self._ask("single", lambda client: client.get_batch(batch_id))
        except Exception as error:
            return error

    def _record_outcome(self, batch_id: str, answer: Batch | Exception, since: float | None = None) -> None:
        now, asked_at = self._client.now(), clock.now().timestamp() if since is None else since
        for watch, wait in self._awaited.get(batch_id, ()):
            if wait.due_at is None:
                continue
            if isinstance(answer, Batch):
                wait.record_batch(answer)
            elif isinstance(answer, SiliconFlowError):
                wait.record_error(answer, now)
            else:
                watch.notify(answer)
            wait.schedule(now, asked_at, self._jitter)
            if wait.batch is not None and wait.due_at is not None:
                # To save memory, fields that only the end of a wait needs are dropped.
                wait.batch = replace(wait.batch, metadata={}, output_file_id=None, error_file_id=None)
            if len(watch.waits) == 1 or watch.is_over:
                watch.notify()
            else:
                self._notify_later.add(watch)

    async def _page(self, after: str | None) -> tuple[list[Batch], str | None]:
        return await self._ask("list", lambda client: client.batch_page(after))

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


# Weak: only its task and its triggers keep a watcher alive, so that it is removed when its loop ends.
_watchers: WeakValueDictionary[tuple[int, str], BatchWatcher] = WeakValueDictionary()
