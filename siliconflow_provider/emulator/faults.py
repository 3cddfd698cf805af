"""Planned faults at endpoints, as a network, a gateway or an overloaded service causes them (plain ASGI)."""

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

# The key of the connection's asyncio transport in a scope's extensions.
TRANSPORT = "siliconflow.transport"
OVERLOADED = {"code": 50505, "message": "Model service overloaded. Please try again later.", "data": None}
GATEWAY_TIMEOUT = "<html><head><title>504 Gateway Time-out</title></head></html>"
BODIES: dict[int, Any] = {401: '"Invalid token"', 403: '"Forbidden"', 503: OVERLOADED, 504: GATEWAY_TIMEOUT}

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Fault(Rule, frozen=True, kw_only=True, tag_field="kind"):
    """A fault at an endpoint such as `GET /batches/{id}`, or at one id. It applies before the key is checked."""

    endpoint: str

    def __post_init__(self) -> None:
        if not any(is_of(self.endpoint, known) for known in ENDPOINTS):
            raise ValueError(f"endpoint: must be one of {', '.join(ENDPOINTS)}, not {self.endpoint!r}")

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request with this fault."""
        raise NotImplementedError


class StatusFault(Fault, frozen=True, kw_only=True, tag="status"):
    """Answer with this status and body. A string is sent unchanged, other values as JSON.

    With `after_work`, the request is executed first, and only its response is replaced.
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
    """Answer with a 200 whose body is not JSON."""

    status: Annotated[int, msgspec.Meta(ge=200, le=299)] = 200
    body: Any = "<html><body>It works!</body></html>"


class LostAnswerFault(Fault, frozen=True, kw_only=True, tag="lost_answer"):
    """Execute the request, then close the connection without a response."""

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await _work(app, scope, receive)
        await _close(scope, receive)


class ResetFault(Fault, frozen=True, kw_only=True, tag="reset"):
    """Reset the connection without executing the request."""

    async def play(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        linger_for_no_time = struct.pack("ii", 1, 0)
        connection = scope["extensions"][TRANSPORT].get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        await _close(scope, receive)


class DelayFault(Fault, frozen=True, kw_only=True, tag="delay"):
    """Delay the execution, or with `after_work` the response, by this number of seconds.

    If the client disconnects, a request with a delayed execution is not executed, one with a delayed response is.
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
    """Cut the body off after this number of bytes, before its Content-Length is reached."""

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
    """Send the body slowly, in chunks of this number of bytes with pauses between them."""

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
    """Applies the planned faults to the requests of an application."""

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
    """Execute the request without sending its response."""

    async def discard(message: Message) -> None:
        pass

    await app(scope, receive, discard)


async def _close(scope: Scope, receive: Receive) -> None:
    """Close the connection after all sent data has left, and return when the server has noticed it."""
    scope["extensions"][TRANSPORT].close()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pause(scope: Scope, seconds: float) -> None:
    """Sleep in real time, until the connection ends."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not scope["extensions"][TRANSPORT].is_closing():
        await asyncio.sleep(min(left, 0.02))
