"""The control interface over HTTP, for tests in other processes: JSON, below /control, without a key."""

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

PATH = "/control"


class Hold(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /control/clock/hold`."""

    at: float | None = None


class Advance(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /control/clock/advance`."""

    seconds: float


def control_app(control: Control) -> Starlette:
    """The application of all paths below /control."""

    def clock() -> dict[str, Any]:
        return {"now": control.clock(), "held": control.clock.is_held}

    def hold(body: dict[str, Any]) -> dict[str, Any]:
        control.clock.hold(read("hold", body, Hold).at)
        return clock()

    def advance(body: dict[str, Any]) -> dict[str, Any]:
        control.clock.advance(read("advance", body, Advance).seconds)
        return clock()

    def release(body: dict[str, Any]) -> dict[str, Any]:
        control.clock.release()
        return clock()

    def rules(body: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"plans": control.plans(), "faults": control.faults()}

    def plan(body: dict[str, Any]) -> dict[str, Any]:
        control.plan(**body)
        return rules()

    def fault(body: dict[str, Any]) -> dict[str, Any]:
        control.fault(**{"endpoint": ""} | body)
        return rules()

    def reset(body: dict[str, Any]) -> dict[str, Any]:
        control.reset()
        return rules()

    def counts(request: Request) -> Response:
        return JSONResponse({"answers": control.answers(), "batches": control.batches_created()})

    def executions(request: Request) -> Response:
        found = control.executions(request.query_params.get("by", "body"))  # type: ignore[arg-type]
        totals = {"total": found.total, "distinct": found.distinct, "most": found.most}
        return JSONResponse(totals | ({"counts": found.counts} if "counts" in request.query_params else {}))

    return Starlette(
        routes=[
            Route(f"{PATH}/clock", lambda request: JSONResponse(clock()), methods=["GET"]),
            Route(f"{PATH}/clock/hold", _command(hold), methods=["POST"]),
            Route(f"{PATH}/clock/advance", _command(advance), methods=["POST"]),
            Route(f"{PATH}/clock/release", _command(release), methods=["POST"]),
            Route(f"{PATH}/rules", lambda request: JSONResponse(rules()), methods=["GET"]),
            Route(f"{PATH}/plans", _command(plan), methods=["POST"]),
            Route(f"{PATH}/faults", _command(fault), methods=["POST"]),
            Route(f"{PATH}/reset", _command(reset), methods=["POST"]),
            Route(f"{PATH}/counts", counts, methods=["GET"]),
            Route(f"{PATH}/executions", executions, methods=["GET"]),
        ],
        exception_handlers={ControlError: _control_error, ApiError: api_error, HTTPException: unknown_path_error},
    )


def beside(control: Control, app: ASGIApp) -> ASGIApp:
    """The application, with the control interface below its path /control."""
    controls = control_app(control)

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        await (controls if scope["path"].startswith(PATH + "/") else app)(scope, receive, send)

    return either


def _command(command: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a command; no body is an empty object."""

    async def endpoint(request: Request) -> Response:
        body = await json_object(request) if await request.body() else {}
        return JSONResponse(await run_in_threadpool(command, body))

    return endpoint


def _control_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"code": BAD_REQUEST, "message": str(error), "data": None}, 400)
