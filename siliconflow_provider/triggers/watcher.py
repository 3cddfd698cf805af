"""Poll the service once for all triggers of an event loop that wait on the same connection."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import replace
from math import inf
from weakref import WeakValueDictionary

from siliconflow_provider import metrics
from siliconflow_provider.api import clock
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
from siliconflow_provider.triggers.requests import MOST_REQUESTS, WatcherRequests
from siliconflow_provider.triggers.watch import Watch
from siliconflow_provider.waiting import (
    BatchSearch,
    BatchWait,
    batch_from_list_item,
    count_on_later_pages,
    due_batches,
    is_page_worthwhile,
)

# With four concurrent requests, this is at most 40 requests a second.
REQUEST_SPACING = 0.1
JOIN_SECONDS = 1.0
LIST_PAUSE_SECONDS = 60.0
# Processing a whole page at once, with its triggers, would block the event loop for about 10 ms.
ITEMS_AT_ONCE = 20
MOST_FAILURES = 4
MOST_UNIDENTIFIED = 100
ACCOUNT_ERRORS = (AuthenticationError, ConnectionFailedError, RateLimitError)


@contextmanager
def watching(siliconflow_conn_id: str, waits: Sequence[BatchWait]) -> Iterator[Watch]:
    """Watch batches, together with those of all other triggers on this event loop and connection.

    Until the context ends, the watcher records every poll in the waits, and schedules their next polls.
    """
    watcher = _watcher_of(siliconflow_conn_id)
    watch = watcher.join(waits)
    metrics.count_waits_started(siliconflow_conn_id, len(waits))
    try:
        yield watch
    finally:
        watcher.leave(watch)
        metrics.count_waits_ended(siliconflow_conn_id, [wait.state(watch.now()) for wait in waits])


@contextmanager
def searching(siliconflow_conn_id: str, search: BatchSearch) -> Iterator[Watch]:
    """Search the list of the account, together with the waits of this event loop and connection.

    Until the context ends, the watcher records every search, and notifies the watch after it.
    """
    watcher = _watcher_of(siliconflow_conn_id)
    watch = watcher.join([], search)
    try:
        yield watch
    finally:
        watcher.leave(watch)


def _watcher_of(siliconflow_conn_id: str) -> BatchWatcher:
    key = (id(asyncio.get_running_loop()), siliconflow_conn_id)
    watcher = _watchers.get(key)
    if watcher is None or watcher.is_stopped:
        watcher = _watchers[key] = BatchWatcher(siliconflow_conn_id)
    return watcher


class BatchWatcher:
    """Poll all awaited batches of one connection until no trigger waits any more.

    Requests run in its own threads, and so does reading the connection. Only the event loop changes its state.
    """

    def __init__(self, siliconflow_conn_id: str) -> None:
        self._requests = WatcherRequests(siliconflow_conn_id)
        self._loop = asyncio.get_running_loop()
        self._awaited: dict[str, list[tuple[Watch, BatchWait]]] = {}
        self._searches: dict[Watch, BatchSearch] = {}
        self._notify_later: set[Watch] = set()
        self._polled_at = self._list_again_at = -inf
        self._jitter = 0.0
        self._sleeper: asyncio.Task[object] | None = None
        # In its own context, so that log lines do not go into the log of one trigger.
        self._task = self._loop.create_task(self._run(), context=Context())
        self.is_stopped = False

    def join(self, waits: Sequence[BatchWait], search: BatchSearch | None = None) -> Watch:
        """Start to watch the waits, and to search. Waits that join within the same second are polled together."""
        watch = Watch(waits, self._requests.now)
        now = clock.now().timestamp()
        for wait in waits:
            wait.asked_at = now
            wait.due_at = now + min(max(0.0, self._polled_at + JOIN_SECONDS - now), JOIN_SECONDS)
            self._awaited.setdefault(wait.batch_id, []).append((watch, wait))
        if search is not None:
            self._searches[watch] = search
        elif watch.is_over:
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
        self._searches.pop(watch, None)
        if not (self._awaited or self._searches):
            self.is_stopped = True
            self._requests.close()
            if not self._loop.is_closed():
                self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._sleep_until_due()
                await self._poll_due()
        except Exception as error:
            self.is_stopped = True
            for watch in {*self._searches, *(watch for pairs in self._awaited.values() for watch, _ in pairs)}:
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
        waits = min((wait.seconds_until_due(now) for wait in self._waits()), default=inf)
        return min([waits, *(search.seconds_until_due(now) for search in self._searches.values())])

    def _waits(self) -> Iterator[BatchWait]:
        return (wait for pairs in self._awaited.values() for _, wait in pairs)

    async def _poll_due(self) -> None:
        """Poll all batches that are due."""
        unusable = await self._requests.connection_error()
        now = clock.now().timestamp()
        self._jitter = random.random()  # noqa: S311 - spreads polls, guards nothing
        due = due_batches(self._waits(), now)
        searches = {watch: search for watch, search in self._searches.items() if not search.seconds_until_due(now)}
        if unusable is not None:
            for batch_id in due:
                self._record_outcome(batch_id, unusable)
            due = []
            self._finish(searches, now, unusable)
        elif searches or (is_page_worthwhile(len(due), 0) and now >= self._list_again_at):
            due = await self._poll_list(due, now, searches)
        await self._poll_singly(due)
        self._polled_at = clock.now().timestamp()
        for watch in self._notify_later:
            watch.notify()
        self._notify_later.clear()

    async def _poll_list(self, due: Sequence[str], since: float, searches: Mapping[Watch, BatchSearch]) -> list[str]:
        """Poll by the list while its pages save requests or a search needs them. Return the ids to poll singly."""
        going_on = list(searches.values())
        missing = {batch_id: self._awaited[batch_id][0][1] for batch_id in due}
        listed, pages, after = len(missing), 0, None
        while going_on or is_page_worthwhile(listed, pages):
            previous_after = after
            try:
                page, after = await self._requests.page(previous_after)
            except Exception as error:
                self._finish(searches, since, error)
                return self._list_failed(error, list(missing))
            pages += 1
            for start in range(0, len(page) or 1, ITEMS_AT_ONCE):
                items = page[start : start + ITEMS_AT_ONCE]
                for item in items:
                    self._record_item(item, missing, since)
                for search in going_on:
                    search.record_items(items, self._requests.now().timestamp(), since)
                await asyncio.sleep(0)
            going_on = [search for search in going_on if search.end_page()]
            # If the service ignores paging, it returns the same page again.
            if after in (None, previous_after):
                break
            listed = count_on_later_pages(missing, page)
        await self._identify(searches.values())
        self._finish(searches, since)
        return list(missing)

    async def _identify(self, searches: Iterable[BatchSearch]) -> None:
        """Poll batches whose metadata the list does not show; those that fail are asked for after the next search."""
        asked: dict[str, Batch | Exception] = {}
        for search in searches:
            for batch_id in search.unidentified[:MOST_UNIDENTIFIED]:
                if batch_id not in asked:
                    asked[batch_id] = await self._requests.batch(batch_id)
                    await clock.sleep_async(REQUEST_SPACING)
                answer = asked[batch_id]
                if isinstance(answer, Batch):
                    search.record_batch(answer, is_single=True)
                elif not isinstance(answer, NotFoundError):
                    return

    def _finish(self, searches: Mapping[Watch, BatchSearch], since: float, error: Exception | None = None) -> None:
        for watch, search in searches.items():
            if isinstance(error, SiliconFlowError | None):
                search.finish(since, error)
                watch.notify()
            else:
                watch.notify(error)

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
                answer = await self._requests.batch(batch_id)
                self._record_outcome(batch_id, answer)
                is_outage = isinstance(answer, SiliconFlowError) and not isinstance(answer, NotFoundError)
                failures = failures + 1 if is_outage else 0
                if failures >= MOST_FAILURES:
                    while remaining:
                        self._record_outcome(remaining.popleft(), answer)
                if remaining:
                    await clock.sleep_async(REQUEST_SPACING)

        await asyncio.gather(*(poll_in_turn() for _ in range(min(MOST_REQUESTS, len(remaining)))))

    def _record_outcome(self, batch_id: str, answer: Batch | Exception, since: float | None = None) -> None:
        now, asked_at = self._requests.now(), clock.now().timestamp() if since is None else since
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


# Weak: only its task and its triggers keep a watcher alive, so that it is removed when its loop ends.
_watchers: WeakValueDictionary[tuple[int, str], BatchWatcher] = WeakValueDictionary()
