"""Faults at endpoints, as pure ASGI: what a network, a gateway or an overloaded service does to a request."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Annotated, Any

import msgspec
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siliconflow_provider.emulator.endpoints import API_PREFIX, ENDPOINTS, is_of
from siliconflow_provider.emulator.errors import INTERNAL
from siliconflow_provider.emulator.rules import Rule, Rules

# The name in a scope's extensions of the connection's asyncio transport.
TRANSPORT = "siliconflow.transport"
OVERLOADED = {"code": 50505, "message": "Model service overloaded. Please try again later.", "data": None}
GATEWAY_TIMEOUT = "<html><head><title>504 Gateway Time-out</title></head></html>"
BODIES: dict[int, Any] = {401: '"Invalid token"', 403: '"Forbidden"', 503: OVERLOADED, 504: GATEWAY_TIMEOUT}

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Fault(Rule, frozen=True, kw_only=True, tag_field="kind"):
    """What goes wrong at an endpoint such as `GET /batches/{id}`, or at one of its ids, before the key is checked."""

    endpoint: str

    def __post_init__(self) -> None:
        if not any(is_of(self.endpoint, known) for known in ENDPOINTS):
            raise ValueError(f"endpoint: must be one of {', '.join(ENDPOINTS)}, not {self.endpoint!r}")

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or do not."""
        raise NotImplementedError


class StatusFault(Fault, frozen=True, kw_only=True, tag="status"):
    """An answer of the fault's own: a body that is a string is sent as it is, any other as JSON.

    With `after_work` the service has done what it was asked to, and only its answer is lost.
    """

    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 503
    body: Any = None
    retry_after: int | str | None = None
    after_work: bool = False

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if self.after_work:
            await _work(app, scope, receive)
        response = self._response()
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(self.retry_after)
        await response(scope, receive, send)

    def _response(self) -> Response:
        planned = {"code": INTERNAL, "message": f"a planned {self.status}", "data": None}
        body = BODIES.get(self.status, planned) if self.body is None else self.body
        if not isinstance(body, str):
            return JSONResponse(body, self.status)
        return Response(body, self.status, media_type="text/html" if body.startswith("<") else "text/plain")


class GarbageFault(StatusFault, frozen=True, kw_only=True, tag="garbage"):
    """A 200 whose body is no JSON."""

    status: Annotated[int, msgspec.Meta(ge=200, le=299)] = 200
    body: Any = "<html><body>It works!</body></html>"


class LostAnswerFault(Fault, frozen=True, kw_only=True, tag="lost_answer"):
    """The work is done, then the connection is closed without an answer."""

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await _work(app, scope, receive)
        await _close(scope, receive)


class ResetFault(Fault, frozen=True, kw_only=True, tag="reset"):
    """The connection is reset before the work."""

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        linger_for_no_time = struct.pack("ii", 1, 0)
        connection = scope["extensions"][TRANSPORT].get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        await _close(scope, receive)


class DelayFault(Fault, frozen=True, kw_only=True, tag="delay"):
    """The work, or with `after_work` the answer to it, comes so many seconds later.

    A client that gives up before the work has never asked; one that gives up after it has.
    """

    seconds: Seconds
    after_work: bool = False

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await _pause(scope, self.seconds)
            await send(message)

        if not self.after_work:
            await _pause(scope, self.seconds)
        await app(scope, receive, late if self.after_work else send)


class CutFault(Fault, frozen=True, kw_only=True, tag="cut"):
    """The body breaks off after so many bytes, fewer than its Content-Length promised."""

    after_bytes: Annotated[int, msgspec.Meta(ge=0)]

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        left = self.after_bytes
        is_cut = False

        async def cut(message: Message) -> None:
            nonlocal left, is_cut
            body = message.get("body", b"")
            if not is_cut and len(body) > left:
                is_cut = True
                await send({**message, "body": body[:left], "more_body": True})
            elif not is_cut:
                left -= len(body)
                await send(message)

        await app(scope, receive, cut)
        if is_cut:
            await _close(scope, receive)


class SlowFault(Fault, frozen=True, kw_only=True, tag="slow"):
    """The body drips: chunks of so many bytes, with so many seconds between them."""

    chunk_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64
    pause_seconds: Seconds = 0.01

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def drip(message: Message) -> None:
            body = message.get("body", b"")
            while len(body) > self.chunk_bytes:
                await send({**message, "body": body[: self.chunk_bytes], "more_body": True})
                await _pause(scope, self.pause_seconds)
                body = body[self.chunk_bytes :]
            await send({**message, "body": body} if body else message)

        await app(scope, receive, drip)


KINDS: dict[str, type[Fault]] = {
    "status": StatusFault,
    "garbage": GarbageFault,
    "lost_answer": LostAnswerFault,
    "reset": ResetFault,
    "delay": DelayFault,
    "cut": CutFault,
    "slow": SlowFault,
}


class FaultyApp:
    """An application whose requests meet the faults that are planned for them."""

    def __init__(self, app: ASGIApp, faults: Rules[Fault]) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = f"{scope['method']} {scope['path'].removeprefix(API_PREFIX)}"
        fault = self._faults.take(lambda fault: is_of(request, fault.endpoint))
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await fault.play(self._app, scope, receive, send)


async def _work(app: ASGIApp, scope: Scope, receive: Receive) -> None:
    """Have the request carried out, and keep the answer back."""

    async def nowhere(message: Message) -> None:
        pass

    await app(scope, receive, nowhere)


async def _close(scope: Scope, receive: Receive) -> None:
    """Close the connection once what was sent has left; returns when the server knows it."""
    scope["extensions"][TRANSPORT].close()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pause(scope: Scope, seconds: float) -> None:
    """Let real time pass, unless the connection ends."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not scope["extensions"][TRANSPORT].is_closing():
        await asyncio.sleep(min(left, 0.02))
