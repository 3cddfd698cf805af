"""Connections that show no key, end in time, are not used after a pause, and lead nowhere they must not."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Any

from requests.adapters import HTTPAdapter

from siliconflow_provider.api.hidden import MASK, Secret

LONGEST_IDLE_SECONDS = 1.0
LONGEST_LINE = 65_536
# What stands in a request's headers until they are sent.
MASKED_AUTHORIZATION = f"Bearer {MASK}"


@dataclass
class Exchange:
    """One request under way, and the time that it may take.

    :param seconds: until the end; with `seconds_per_byte`, until as much has been transferred as that stands for
    :param seconds_per_byte: how much later the end is for each byte that is sent or arrives
    :param has_begun: whether anything of the request may have been sent
    """

    seconds: float = inf
    seconds_per_byte: float = 0.0
    has_begun: bool = False
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        self._until = monotonic() + self.seconds

    def left(self) -> float:
        """Return the seconds until the end.

        :raises TimeoutError: when there are none
        """
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError(f"it took longer than {self.seconds:g} s")
        return left

    def moved(self, count: int) -> None:
        """Note that so many bytes have been sent or have arrived."""
        self._until = min(self._until + count * self.seconds_per_byte, monotonic() + self.seconds)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Have all connections of this thread know of it meanwhile."""
        token = _under_way.set(self)
        try:
            yield
        finally:
            _under_way.reset(token)


_under_way: ContextVar[Exchange | None] = ContextVar("siliconflow_exchange", default=None)


def _exchange() -> Exchange:
    return _under_way.get() or Exchange()


class _TimedReader(io.RawIOBase):
    """Reads from a socket, whose timeout is for each reading, until the exchange has to be over."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw = raw
        self._connection = connection
        self._timeout = connection.gettimeout()
        self._exchange = _exchange()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._exchange.left()
        if left < inf:
            self._connection.settimeout(left if self._timeout is None else min(left, self._timeout))
        try:
            count: int | None = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        except TimeoutError:
            # It says which of both limits was met.
            self._exchange.left()
            raise
        self._exchange.moved(count or 0)
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Lines(io.BufferedReader):
    def readline(self, size: int | None = -1) -> bytes:
        """Return a line; urllib3 does not say how long the size of a chunk may be."""
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise http.client.LineTooLong("chunk size")
        return line

    def read(self, size: int | None = -1) -> bytes:
        """Return so many bytes; a chunk of less than none would be all that the server ever sends."""
        if size is None or size < 0:
            raise http.client.HTTPException("a chunk has less than no bytes, or the body would be read without a limit")
        return super().read(size)


class _Answer(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        self.fp: Any = _Lines(_TimedReader(self.fp.detach(), connection))  # type: ignore[has-type]


class _OptionsWhileThereIsTime(tuple[Any, ...]):
    """Options for the socket of each address of a host that is tried, as long as the exchange has time for one more."""

    def __iter__(self) -> Iterator[Any]:
        _exchange().left()
        return super().__iter__()


class _Connection:
    """What is mixed into urllib3's connections. They print nothing, and are left once they were idle.

    Those of `http.client` print what they send when its debug level is set. A server closes an idle connection after
    some seconds, 5 for instance; a request that is sent in that moment is lost.
    """

    debuglevel = 0
    response_class = _Answer
    sock: Any
    timeout: Any
    socket_options: Any
    key: Secret
    check_peer: Callable[[str, int, str], None]
    _answered_at = inf
    _sends_headers = False

    def _new_conn(self) -> socket.socket:
        left = _exchange().left()
        if left < inf:
            self.timeout = left if self.timeout is None else min(left, self.timeout)
            self.socket_options = _OptionsWhileThereIsTime(self.socket_options or ())
        connection: socket.socket = super()._new_conn()  # type: ignore[misc]
        # Behind a proxy it is the proxy that knows the address; a connection through SOCKS does not call it one.
        if getattr(self, "proxy", None) is None and not hasattr(self, "_socks_options"):
            try:
                self.check_peer(self.host, self.port, connection.getpeername()[0])  # type: ignore[attr-defined]
            except BaseException:
                connection.close()
                raise
        return connection

    def request(self, *arguments: Any, **options: Any) -> None:
        # Else the connection would only come about while the headers are being sent.
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        super().request(*arguments, **options)  # type: ignore[misc]

    def endheaders(self, *arguments: Any, **options: Any) -> None:
        self._sends_headers = True
        super().endheaders(*arguments, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Send some of a request; its headers get the key in this moment, so that nothing else ever has it."""
        exchange = _exchange()
        left = exchange.left()
        if left < inf and self.sock is not None:
            timeout = self.sock.gettimeout()
            self.sock.settimeout(left if timeout is None else min(left, timeout))
        if self._sends_headers:
            self._sends_headers = False
            exchange.has_begun = True
            # As a view, which shows nothing of it where an exception meets it.
            self.sock.sendall(memoryview(self._with_key(data)))
        else:
            super().send(data)  # type: ignore[misc]
        exchange.moved(len(data) if isinstance(data, bytes) else 0)

    def _with_key(self, headers: bytes) -> bytes:
        return headers.replace(
            f"\r\nAuthorization: {MASKED_AUTHORIZATION}\r\n".encode(),
            f"\r\nAuthorization: Bearer {self.key.reveal()}\r\n".encode(),
            1,
        )

    def getresponse(self, *arguments: Any, **options: Any) -> Any:
        response = super().getresponse(*arguments, **options)  # type: ignore[misc]
        self._answered_at = monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        is_idle = monotonic() - self._answered_at > LONGEST_IDLE_SECONDS
        return not is_idle and super().is_connected  # type: ignore[misc]


class OwnAdapter(HTTPAdapter):
    """Sends over such connections.

    :param key: put into the headers that ask for it
    :param check_peer: called with host and port of a new connection and its IP address; raises when it must not be
    """

    def __init__(self, key: Secret, check_peer: Callable[[str, int, str], None]) -> None:
        self._attributes = {"key": key, "check_peer": staticmethod(check_peer)}
        self._classes: dict[Any, Any] = {}
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the pool for a request."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        if not issubclass(pool.ConnectionCls, _Connection):
            pool.ConnectionCls = self._own(pool.ConnectionCls)
        return pool

    def _own(self, connection_class: Any) -> Any:
        if connection_class not in self._classes:
            own = type(connection_class.__name__, (_Connection, connection_class), self._attributes)
            self._classes[connection_class] = own
        return self._classes[connection_class]
