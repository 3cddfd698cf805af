"""The control interface over HTTP, for tests in other processes: JSON below /control, without a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from siliconflow_provider.emulator.api import api_error, json_object, unknown_path_error
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.errors import BAD_REQUEST, ApiError, ControlError
from siliconflow_provider.emulator.rules import read
from siliconflow_provider.emulator.web_pages import refuse_web_pages

PATH = "/control"

Handler = Callable[[Control, dict[str, Any]], dict[str, Any]]


class Hold(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /control/clock/hold`."""

    at: float | None = None


class Advance(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /control/clock/advance`."""

    seconds: float


def beside(control: Control, app: ASGIApp) -> ASGIApp:
    """Return the application with the control interface added below /control."""
    controls = control_app(control)

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        await (controls if scope["path"].startswith(PATH + "/") else app)(scope, receive, send)

    return either


def control_app(control: Control) -> Starlette:
    """Return the application for all paths below /control."""
    return Starlette(
        routes=[
            Route(PATH + path, _endpoint(control, handler), methods=[method])
            for (method, path), handler in HANDLERS.items()
        ],
        exception_handlers={ControlError: _control_error, ApiError: api_error, HTTPException: unknown_path_error},
    )


def _endpoint(control: Control, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that calls the handler with the query of a GET or the body of a POST, which may be empty."""

    async def endpoint(request: Request) -> Response:
        refuse_web_pages(request)
        fields: dict[str, Any] = dict(request.query_params)
        if request.method == "POST":
            fields = await json_object(request) if await request.body() else {}
        return JSONResponse(await run_in_threadpool(handler, control, fields))

    return endpoint


def _clock(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    return {"now": control.clock(), "held": control.clock.is_held}


def _hold(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    control.clock.hold(read("hold", fields, Hold).at)
    return _clock(control, fields)


def _advance(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    control.clock.advance(read("advance", fields, Advance).seconds)
    return _clock(control, fields)


def _release(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    control.clock.release()
    return _clock(control, fields)


def _rules(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    return {"plans": control.plans(), "faults": control.faults()}


def _plan(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    control.plan(**fields)
    return _rules(control, fields)


def _fault(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    control.fault(**{"endpoint": ""} | fields)
    return _rules(control, fields)


def _reset(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    control.reset()
    return _rules(control, fields)


def _counts(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    return {"answers": control.answers(), "batches": control.batches_created()}


def _executions(control: Control, fields: dict[str, Any]) -> dict[str, Any]:
    found = control.executions(fields.get("by", "body"))
    totals = {"total": found.total, "distinct": found.distinct, "most": found.most}
    return totals | {"counts": found.counts} if "counts" in fields else totals


def _control_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"code": BAD_REQUEST, "message": str(error), "data": None}, 400)


HANDLERS: dict[tuple[str, str], Handler] = {
    ("GET", "/clock"): _clock,
    ("POST", "/clock/hold"): _hold,
    ("POST", "/clock/advance"): _advance,
    ("POST", "/clock/release"): _release,
    ("GET", "/rules"): _rules,
    ("POST", "/plans"): _plan,
    ("POST", "/faults"): _fault,
    ("POST", "/reset"): _reset,
    ("GET", "/counts"): _counts,
    ("GET", "/executions"): _executions,
}
