"""One poll shared by all triggers of an event loop that wait on the same connection."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import replace
from math import inf
from typing import TypeVar
from weakref import WeakValueDictionary

import pendulum

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
from siliconflow_provider.waiting import (
    BatchWait,
    batch_from_list_item,
    count_on_later_pages,
    due_batches,
    is_page_worthwhile,
)

MOST_REQUESTS = 4
# With four at a time, this is at most 40 requests a second, however fast the service answers.
REQUEST_SPACING = 0.1
JOIN_SECONDS = 1.0
LIST_PAUSE_SECONDS = 60.0
# A whole page, and the triggers that hear of it, would hold up the event loop for some 10 ms.
ITEMS_AT_ONCE = 20
MOST_FAILURES = 4
# One that never ends its answer, or asks to be tried again in minutes, must not hold up the other waits.
LONGEST_ANSWER_SECONDS = 90.0
ACCOUNT_ERRORS = (AuthenticationError, ConnectionFailedError, RateLimitError)

T = TypeVar("T")


@contextmanager
def watching(siliconflow_conn_id: str, waits: Sequence[BatchWait]) -> Iterator[Watch]:
    """Have batches watched, together with those of all others on this event loop and connection.

    The waits take in every answer, and are scheduled by it, until this context is left.
    """
    key = (id(asyncio.get_running_loop()), siliconflow_conn_id)
    watcher = _watchers.get(key)
    if watcher is None or watcher.is_stopped:
        watcher = _watchers[key] = BatchWatcher(siliconflow_conn_id)
    watch = watcher.join(waits)
    try:
        yield watch
    finally:
        watcher.leave(watch)


class Watch:
    """What one trigger waits for.

    :param now: tells the present moment by the service's clock
    """

    def __init__(self, waits: Sequence[BatchWait], now: Callable[[], pendulum.DateTime]) -> None:
        self.waits = waits
        self.now = now
        self._updated = asyncio.Event()
        self._error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to ask."""
        return all(wait.due_at is None for wait in self.waits)

    async def wait_for_update(self, seconds: float = inf) -> bool:
        """Return once an answer has come, or after so many seconds; raise what keeps one from coming.

        :returns: whether an answer has come
        """
        # Not `wait_for`, which up to Python 3.11 may swallow that the trigger is cancelled.
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == inf else seconds):
                await self._updated.wait()
        is_updated = self._updated.is_set()
        self._updated.clear()
        if self._error is not None:
            raise self._error.with_traceback(None)
        return is_updated

    def notify(self, error: Exception | None = None) -> None:
        """Let `wait_for_update` return, or raise the error."""
        self._error = self._error or error
        self._updated.set()


class BatchWatcher:
    """Asks for all batches that are awaited on one connection, as long as any is.

    Requests, and the reading of the connection, happen in threads of its own. Its state is the event loop's alone.
    """

    def __init__(self, siliconflow_conn_id: str) -> None:
        self._client = SharedClient(siliconflow_conn_id)
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(MOST_REQUESTS, thread_name_prefix=f"siliconflow-{siliconflow_conn_id}")
        self._awaited: dict[str, list[tuple[Watch, BatchWait]]] = {}
        self._notify_later: set[Watch] = set()
        self._polled_at = -inf
        self._jitter = 0.0
        self._list_again_at = -inf
        self._sleeper: asyncio.Task[object] | None = None
        # In a context of its own: what happens here is to be in no single trigger's log.
        self._task = self._loop.create_task(self._run(), context=Context())
        self.is_stopped = False

    def join(self, waits: Sequence[BatchWait]) -> Watch:
        """Watch these too; those that join within the same second are asked for together."""
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
        """Watch these no longer; the last one to leave stops the watcher."""
        for wait in watch.waits:
            others = [each for each in self._awaited.pop(wait.batch_id, []) if each[0] is not watch]
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
            # When all are over, only one that joins can end the pause.
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
        """Ask once for all that is due."""
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
        """Return what makes the connection unusable, which is to be known before anything is asked."""
        try:
            await self._in_thread(self._client.get)
        except SiliconFlowError as error:
            return error
        return None

    async def _poll_list(self, due: Sequence[str], since: float) -> list[str]:
        """Take in what the list shows, as far as it is worth the requests; return what is left to ask singly."""
        missing = {batch_id: self._awaited[batch_id][0][1] for batch_id in due}
        listed, pages, after = len(missing), 0, None
        while is_page_worthwhile(listed, pages):
            asked_after = after
            try:
                page, after = await self._page(asked_after)
            except Exception as error:
                return self._list_failed(error, list(missing))
            pages += 1
            for number, item in enumerate(page):
                self._record_item(item, missing, since)
                if number % ITEMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            # A service that ignores paging sends the same page again.
            if after in (None, asked_after):
                break
            listed = count_on_later_pages(missing, page)
        return list(missing)

    def _record_item(self, item: Batch, missing: dict[str, BatchWait], since: float) -> None:
        if item.id not in self._awaited:
            return
        wait = self._awaited[item.id][0][1]
        batch = batch_from_list_item(item, wait.batch)
        if batch is not None:
            # All that one look through the list has shown stay together: they are due again at once.
            self._record_outcome(item.id, batch, since)
            missing.pop(item.id, None)
        elif item.is_terminal:
            missing[item.id] = wait

    def _list_failed(self, error: Exception, due: list[str]) -> list[str]:
        if not isinstance(error, ACCOUNT_ERRORS):
            # It may be the list alone that fails: for a while all are asked for singly.
            self._list_again_at = clock.now().timestamp() + LIST_PAUSE_SECONDS
        if not isinstance(error, (*ACCOUNT_ERRORS, ServerError, AnswerLostError)):
            return due
        for batch_id in due:
            self._record_outcome(batch_id, error)
        return []

    async def _poll_singly(self, batch_ids: Sequence[str]) -> None:
        left, failures = deque(batch_ids), 0

        async def ask_in_turn() -> None:
            nonlocal failures
            while left:
                batch_id = left.popleft()
                if batch_id not in self._awaited:
                    continue
                answer = await self._answer(batch_id)
                self._record_outcome(batch_id, answer)
                is_outage = isinstance(answer, SiliconFlowError) and not isinstance(answer, NotFoundError)
                failures = failures + 1 if is_outage else 0
                if failures >= MOST_FAILURES:
                    while left:
                        self._record_outcome(left.popleft(), answer)
                if left:
                    await clock.sleep_async(REQUEST_SPACING)

        await asyncio.gather(*(ask_in_turn() for _ in range(min(MOST_REQUESTS, len(left)))))

    async def _answer(self, batch_id: str) -> Batch | Exception:
        try:
            return await self._ask(lambda client: client.get_batch(batch_id))
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
                # A thousand waits keep a thousand batches: without what only the end needs.
                wait.batch = replace(wait.batch, metadata={}, output_file_id=None, error_file_id=None)
            if len(watch.waits) == 1 or watch.is_over:
                watch.notify()
            else:
                self._notify_later.add(watch)

    async def _page(self, after: str | None) -> tuple[list[Batch], str | None]:
        return await self._ask(lambda client: client.batch_page(after))

    async def _ask(self, request: Callable[[SiliconFlowClient], T]) -> T:
        return await self._in_thread(lambda: self._client.ask(request))

    async def _in_thread(self, action: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(LONGEST_ANSWER_SECONDS):
                return await run_in_thread(self._pool, action)
        except TimeoutError:
            raise AnswerLostError(f"no answer within {LONGEST_ANSWER_SECONDS:g} s") from None


# A watcher is kept by its task and its triggers; one whose loop has died is forgotten with them.
_watchers: WeakValueDictionary[tuple[int, str], BatchWatcher] = WeakValueDictionary()
