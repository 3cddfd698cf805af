"""Share the list of an account's batches: all viewers of a process cost the service one list in some seconds."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic

import pendulum

from siliconflow_provider.api.errors import (
    AuthenticationError,
    IncompleteListError,
    InvalidRequestError,
    PermissionDeniedError,
    SiliconFlowError,
)
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.api.service_texts import cut, cut_between_words, first_errors
from siliconflow_provider.batches import AIRFLOW_TASK
from siliconflow_provider.exceptions import UnknownConnectionError
from siliconflow_provider.plugins.threads import BusyError, Threads

log = logging.getLogger(__name__)

# A list is read again after this time, or after five times the time that reading it took.
FRESH_SECONDS = 10.0
FRESH_SHARE = 5
# A page waits so long for a list; then it shows the one before.
PATIENCE_SECONDS = 4.0
# A list is cut after so many batches, or after this time.
MOST_BATCHES = 2_000
LONGEST_SECONDS = 20.0
MOST_CONNECTIONS = 20
_LONGEST_VALUE = 512
_LONGEST_CLEANED = 10_000
_MOST_PAIRS = 20
_LONGEST_ERRORS = 2_000


@dataclass(frozen=True)
class BatchList:
    """A list of batches of one connection.

    :param moment: when it was read, by the service's clock
    :param is_cut: True if the service lists more
    :param problem: a sentence, if the newest attempt to read it failed
    :param deployments: names of this Airflow that may have marked its batches; that of the connection comes first
    """

    batches: tuple[Batch, ...] = ()
    moment: pendulum.DateTime | None = None
    is_cut: bool = False
    problem: str = ""
    deployments: tuple[str, ...] = ("",)


@dataclass
class _Entry:
    shown: BatchList | None = None
    fresh_until: float = 0.0
    reading: Future[BatchList] | None = None


class BatchLists:
    """The lists of this process, at most one request for each connection at a time.

    :param read: reads the list of a connection; blocks
    """

    def __init__(self, read: Callable[[str], BatchList], threads: Threads) -> None:
        self._read = read
        self._threads = threads
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = Lock()

    async def get(self, conn_id: str) -> BatchList:
        """Return the list of a connection: a fresh one, or after some seconds the last one with a sentence."""
        try:
            entry, reading = self._begin(conn_id)
        except BusyError:
            return BatchList(problem="The API server is reading too many lists at the same time. Try again later.")
        if reading is not None:
            await asyncio.wait([asyncio.ensure_future(asyncio.wrap_future(reading))], timeout=PATIENCE_SECONDS)
            if not reading.done():
                shown = entry.shown or BatchList()
                return shown if shown.problem else replace(shown, problem="The service has not answered yet.")
        return entry.shown or BatchList(problem="The list was not read.")

    def show_cancelled(self, conn_id: str, batch: Batch) -> None:
        """Show a batch as it is after its cancellation, and read the list again at the next request."""
        with self._lock:
            entry = self._entries.get(conn_id)
            if entry is not None and entry.shown is not None:
                # Its texts are cleaned already, with the connection's key.
                batches = tuple(
                    replace(small(batch), metadata=item.metadata, errors=item.errors) if item.id == batch.id else item
                    for item in entry.shown.batches
                )
                entry.shown, entry.fresh_until = replace(entry.shown, batches=batches), 0.0

    def _begin(self, conn_id: str) -> tuple[_Entry, Future[BatchList] | None]:
        """Return the entry of a connection, and the reading to wait for, if any."""
        with self._lock:
            entry = self._entries.get(conn_id) or _Entry()
            is_reading = entry.reading is not None and not entry.reading.done()
            if not is_reading and monotonic() >= entry.fresh_until:
                entry.reading = self._threads.start(lambda: self._refresh(conn_id, entry))
            self._entries[conn_id] = entry
            self._entries.move_to_end(conn_id)
            if len(self._entries) > MOST_CONNECTIONS:
                self._entries.popitem(last=False)
            return entry, entry.reading

    def _refresh(self, conn_id: str, entry: _Entry) -> BatchList:
        start = monotonic()
        found = self._read_or_explain(conn_id, entry.shown)
        with self._lock:
            entry.shown, entry.reading = found, None
            end = monotonic()
            entry.fresh_until = end + max(FRESH_SECONDS, FRESH_SHARE * (end - start))
        return found

    def _read_or_explain(self, conn_id: str, shown: BatchList | None) -> BatchList:
        try:
            return self._read(conn_id)
        except UnknownConnectionError as error:
            # Invented ids must not displace the lists of connections.
            with self._lock:
                self._entries.pop(conn_id, None)
            return BatchList(problem=str(error))
        except (InvalidRequestError, AuthenticationError, PermissionDeniedError) as error:
            # The connection has changed: it may belong to another account now.
            return BatchList(problem=str(error))
        except SiliconFlowError as error:
            return replace(shown or BatchList(), problem=str(error))
        except Exception as error:
            log.exception("the list of connection %r could not be read", conn_id)
            problem = f"The list could not be read: {type(error).__name__}. The API server's log has the error."
            return replace(shown or BatchList(), problem=problem)


def read_list(conn_id: str) -> BatchList:
    """Read the list of a connection from the service.

    :raises SiliconFlowError: if the service fails, or the connection is not usable
    """
    from siliconflow_provider.plugins.connections import ServerHook

    hook = ServerHook(conn_id)
    client = hook.get_quick_conn(LONGEST_SECONDS / 2)
    end = monotonic() + LONGEST_SECONDS
    found: list[Batch] = []
    is_cut, problem = False, ""
    try:
        for batch in client.list_batches(may_be_empty=True):
            if len(found) >= MOST_BATCHES or monotonic() > end:
                is_cut = True
                break
            found.append(small(batch, client.without_secrets))
    except IncompleteListError as error:
        problem = str(error)
    return BatchList(tuple(found), client.now(), is_cut, problem, tuple(dict.fromkeys((hook.deployment, ""))))


def small(batch: Batch, without_secrets: Callable[[str], str] = without_queries) -> Batch:
    """Return a batch without its signed URLs and other secrets, and with short texts.

    :param without_secrets: removes the key and the queries of URLs from a text
    """

    def clean(text: str) -> str:
        # A key or a signature at the end must not be cut in two: half of it would not be recognized.
        return cut(without_secrets(cut_between_words(text, _LONGEST_CLEANED)), _LONGEST_VALUE)

    pairs = list(batch.metadata.items())[:_MOST_PAIRS]
    return replace(
        batch,
        output_file_id=None,
        error_file_id=None,
        errors=[without_secrets(error) for error in first_errors(batch.errors, _LONGEST_ERRORS)],
        # Labels of task instances are compared, and must stay as they are.
        metadata={
            clean(name): cut(value, _LONGEST_VALUE) if name == AIRFLOW_TASK else clean(value) for name, value in pairs
        },
    )
