"""HTTP connections that hide the key, keep a total timeout, are not reused when idle, and check the peer's address."""

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
# A request's headers hold this until they are sent.
MASKED_AUTHORIZATION = f"Bearer {MASK}"


@dataclass
class Exchange:
    """One active request with a total timeout.

    :param seconds: the timeout
    :param seconds_per_byte: each transferred byte moves the deadline by this much, to at most `seconds` from now
    :param has_begun: True if a part of the request may have been sent
    """

    seconds: float = inf
    seconds_per_byte: float = 0.0
    has_begun: bool = False
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        self._until = monotonic() + self.seconds

    def seconds_left(self) -> float:
        """Return the seconds until the deadline.

        :raises TimeoutError: if the deadline is over
        """
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError(f"it took longer than {self.seconds:g} s")
        return left

    def add_transferred(self, count: int) -> None:
        """Move the deadline for this number of transferred bytes."""
        self._until = min(self._until + count * self.seconds_per_byte, monotonic() + self.seconds)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Apply this exchange's timeout to the connections of this thread."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)


_active: ContextVar[Exchange | None] = ContextVar("siliconflow_exchange", default=None)


def _exchange() -> Exchange:
    return _active.get() or Exchange()


class _TimedReader(io.RawIOBase):
    """Reads from a socket until the exchange's deadline. The socket's own timeout is per read."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket) -> None:
        self._raw = raw
        self._connection = connection
        self._timeout = connection.gettimeout()
        self._exchange = _exchange()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._exchange.seconds_left()
        if left < inf:
            self._connection.settimeout(left if self._timeout is None else min(left, self._timeout))
        try:
            count: int | None = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        except TimeoutError:
            # Raises an error of its own if the exchange's deadline is over.
            self._exchange.seconds_left()
            raise
        self._exchange.add_transferred(count or 0)
        return count

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Lines(io.BufferedReader):
    def readline(self, size: int | None = -1) -> bytes:
        """Return a line, limited in length: urllib3 sets no limit for the line with a chunk's size."""
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise http.client.LineTooLong("chunk size")
        return line

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes. A negative size, such as that of an invalid chunk, would read without a limit."""
        if size is None or size < 0:
            raise http.client.HTTPException("a chunk has a negative size, or the body would be read without a limit")
        return super().read(size)


class _Answer(http.client.HTTPResponse):
    def __init__(self, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        self.fp: Any = _Lines(_TimedReader(self.fp.detach(), connection))  # type: ignore[has-type]


class _OptionsWhileThereIsTime(tuple[Any, ...]):
    """Socket options. urllib3 reads them for each address of a host, which raises once the deadline is over."""

    def __iter__(self) -> Iterator[Any]:
        _exchange().seconds_left()
        return super().__iter__()


class _Connection:
    """Mixin for urllib3's connections. They print nothing and are not reused after an idle time.

    `http.client` would print sent data if its debug level is set. A server closes an idle connection after some
    seconds; a request that is sent at that moment is lost.
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
        left = _exchange().seconds_left()
        if left < inf:
            self.timeout = left if self.timeout is None else min(left, self.timeout)
            self.socket_options = _OptionsWhileThereIsTime(self.socket_options or ())
        connection: socket.socket = super()._new_conn()  # type: ignore[misc]
        # Behind a proxy, only the proxy knows the address. SOCKS connections have no `proxy` attribute.
        if getattr(self, "proxy", None) is None and not hasattr(self, "_socks_options"):
            try:
                self.check_peer(self.host, self.port, connection.getpeername()[0])  # type: ignore[attr-defined]
            except BaseException:
                connection.close()
                raise
        return connection

    def request(self, *arguments: Any, **options: Any) -> None:
        # Otherwise the connection would open while the headers are sent, and has_begun would be wrong.
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        super().request(*arguments, **options)  # type: ignore[misc]

    def endheaders(self, *arguments: Any, **options: Any) -> None:
        self._sends_headers = True
        super().endheaders(*arguments, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Send a part of a request. The key is put into the headers only here, so that nothing else holds it."""
        exchange = _exchange()
        left = exchange.seconds_left()
        if left < inf and self.sock is not None:
            timeout = self.sock.gettimeout()
            self.sock.settimeout(left if timeout is None else min(left, timeout))
        if self._sends_headers:
            self._sends_headers = False
            exchange.has_begun = True
            # A memoryview hides the key in the variables of a traceback.
            self.sock.sendall(memoryview(self._with_key(data)))
        else:
            super().send(data)  # type: ignore[misc]
        exchange.add_transferred(len(data) if isinstance(data, bytes) else 0)

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
    """Adapter that uses these connections.

    :param key: replaces the mask in the headers
    :param check_peer: called with host, port and IP address of a new connection; raises if it is not allowed
    """

    def __init__(self, key: Secret, check_peer: Callable[[str, int, str], None]) -> None:
        self._attributes = {"key": key, "check_peer": staticmethod(check_peer)}
        self._classes: dict[Any, Any] = {}
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the connection pool for a request."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        if not issubclass(pool.ConnectionCls, _Connection):
            pool.ConnectionCls = self._own(pool.ConnectionCls)
        return pool

    def _own(self, connection_class: Any) -> Any:
        if connection_class not in self._classes:
            own = type(connection_class.__name__, (_Connection, connection_class), self._attributes)
            self._classes[connection_class] = own
        return self._classes[connection_class]
