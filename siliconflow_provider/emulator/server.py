"""The emulator, which serves both origins from its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from siliconflow_provider.emulator.errors import ControlError, EmulatorError, MissingExtraError

try:
    import fastapi  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name) from error

from siliconflow_provider.emulator import control_api
from siliconflow_provider.emulator.api import Service, api_app
from siliconflow_provider.emulator.batches import BatchStore, Behaviour
from siliconflow_provider.emulator.clock import Clock
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.database import Database
from siliconflow_provider.emulator.faults import TRANSPORT
from siliconflow_provider.emulator.files import FileStore
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.request_log import LoggedApp, RequestLog
from siliconflow_provider.emulator.signing import Signer
from siliconflow_provider.emulator.state import Timings
from siliconflow_provider.emulator.storage import storage_app

GRACE_SECONDS = 0.3
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - known, to be told from addresses; the default is 127.0.0.1


@dataclass(frozen=True)
class EmulatorOptions:
    """Options of an emulator. The timings apply to new batches.

    Port 0 means any free port. A `storage_port` of None means the port after `port`, or any free one if that is 0.
    Batches are refused if `charge_balance` is not above 0, while `max_active_batches` have not ended, or if their model
    is not one of `models`. `control` offers the control interface, in Python as `Emulator.control` and over HTTP at
    `Emulator.control_url`.
    """

    data_dir: Path = Path("siliconflow-emulator")
    host: str = "127.0.0.1"
    port: int = 0
    storage_port: int | None = None
    api_key: str = "sk-emulator"
    queue_seconds: float = 2.0
    run_seconds: float = 5.0
    finalize_seconds: float = 1.0
    cancel_seconds: float = 1.0
    url_seconds: float = 3600.0
    charge_balance: Decimal = Decimal("88.00")
    max_active_batches: int | None = None
    print_requests: bool = False
    forms: Forms = field(default_factory=Forms)
    control: bool = False
    models: Sequence[str] | None = None


class Emulator:
    """A SiliconFlow batch server on this machine, as a context manager.

    Only one emulator at a time may use a data directory. The next one continues with its data, also after a kill.
    """

    base_url: str
    storage_url: str
    control_url: str

    def __init__(self, options: EmulatorOptions | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.options = options or EmulatorOptions()
        self.api_key = self.options.api_key
        self.data_dir = self.options.data_dir
        self._clock = Clock(clock)
        self._control = Control(self._clock)
        self._servers: list[_Server] = []
        self._thread: threading.Thread | None = None
        self._database: Database | None = None
        self._log: RequestLog | None = None

    @property
    def control(self) -> Control:
        """The control interface."""
        if not self.options.control:
            raise ControlError("the control interface is off: start the emulator with EmulatorOptions(control=True)")
        return self._control

    @property
    def airflow_connection(self) -> dict[str, Any]:
        """The Airflow connection to the running emulator, for the JSON of an AIRFLOW_CONN_... variable."""
        extra = {"deployment": "emulator"}
        return {"conn_type": "siliconflow", "host": self.base_url, "password": self.api_key, "extra": extra}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start to serve both origins, and return when they answer. Raise EmulatorError if they cannot."""
        options = self.options
        sockets = [_listen(options.host, options.port, "--port")]
        try:
            sockets.append(_listen(options.host, self._wanted_storage_port(), "--storage-port"))
            api_port, storage_port = (listening.getsockname()[1] for listening in sockets)
            self._serve(self._apps(storage_port), sockets)
        except BaseException:
            for listening in sockets:
                listening.close()
            self.stop()
            raise
        name = _reachable(options.host)
        self.base_url = f"http://{name}:{api_port}/v1"
        self.storage_url = f"http://{name}:{storage_port}"
        self.control_url = f"http://{name}:{api_port}{control_api.PATH}"

    def stop(self) -> None:
        """Stop serving. The state stays in the data directory."""
        for server in self._servers:
            server.end()
        if self._thread is not None:
            self._thread.join()
        self._control.attach(None)
        if self._log is not None:
            self._log.close()
        if self._database is not None:
            self._database.close()
        self._servers, self._thread, self._log, self._database = [], None, None, None

    def _wanted_storage_port(self) -> int:
        if self.options.storage_port is not None:
            return self.options.storage_port
        return self.options.port + 1 if self.options.port else 0

    def _apps(self, storage_port: int) -> list[ASGIApp]:
        try:
            return self._open(storage_port)
        except (OSError, sqlite3.Error) as error:
            raise EmulatorError(
                f"the data directory {self.data_dir} cannot be used ({error}); give another --data-dir"
            ) from error

    def _open(self, storage_port: int) -> list[ASGIApp]:
        """Return both applications for the data directory."""
        options, clock = self.options, self._clock
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._log = RequestLog(self.data_dir / "requests.log", clock, printing=options.print_requests)
        self._database = Database(self.data_dir / "emulator.sqlite")
        files = FileStore(self._database, self.data_dir / "files", clock)
        timings = Timings(options.queue_seconds, options.run_seconds, options.finalize_seconds, options.cancel_seconds)
        models = None if options.models is None else tuple(options.models)
        behaviour = Behaviour(timings, options.forms, self._control.plan_for, options.max_active_batches, models)
        batches = BatchStore(self._database, files, self.data_dir / "results", behaviour, clock)
        signer = Signer(self._database.secret("url signing"), options.url_seconds, clock)
        service = Service(options.api_key, files, batches, signer, storage_port, options.forms, options.charge_balance)
        apps: list[ASGIApp] = [api_app(service), storage_app(batches, signer)]
        if options.control:
            self._control.attach(batches)
            apps = [self._control.controlled(app) for app in apps]
            apps[0] = control_api.beside(self._control, apps[0])
        return [LoggedApp(app, self._log) for app in apps]

    def _serve(self, apps: list[ASGIApp], sockets: list[socket.socket]) -> None:
        self._servers = [_Server(_config(app)) for app in apps]
        self._thread = threading.Thread(
            target=asyncio.run, args=(_run(self._servers, sockets),), name="emulator", daemon=True
        )
        self._thread.start()
        while not all(server.started for server in self._servers):
            if not self._thread.is_alive():
                raise EmulatorError("the emulator's servers did not start; the log above has the reason")
            time.sleep(0.002)


async def _run(servers: list[_Server], sockets: list[socket.socket]) -> None:
    await asyncio.gather(*(server.serve([listening]) for server, listening in zip(servers, sockets, strict=True)))


class _Server(uvicorn.Server):
    """A server that stops at once. uvicorn's takes 0.2 s if idle, and has no limit otherwise."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._wake: Callable[[], object] | None = None

    def end(self) -> None:
        """Have it stop; may be called from any thread, and when it runs no more."""
        self.should_exit = True
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended by itself
                self._wake()

    async def main_loop(self) -> None:
        ended = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        if not self.should_exit:
            await ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        patience = time.monotonic() + GRACE_SECONDS
        while state.connections and time.monotonic() < patience:
            await asyncio.sleep(0.005)
        for connection in list(state.connections):
            connection.transport.abort()
        while state.tasks:
            await asyncio.sleep(0.005)


class _Protocol(H11Protocol):
    """HTTP protocol that adds the connection's transport to the scope, so that faults can break the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        async def app_with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "extensions": {TRANSPORT: transport}}, receive, send)

        self.app = app_with_transport


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # LoggedApp adds the date of the emulator's clock.
        date_header=False,
        proxy_headers=False,
    )


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EmulatorError(
                f"port {port} on {host} is in use; stop the process that uses it, or choose another port with {option}"
                " (0 finds a free one)"
            ) from error
        raise EmulatorError(
            f"cannot listen on {host} port {port}; choose another --host or {option} ({error.strerror})"
        ) from error
    # Otherwise each response on a reused connection waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _reachable(host: str) -> str:
    """Return the host for URLs of clients on this machine."""
    if host in WILDCARDS:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
