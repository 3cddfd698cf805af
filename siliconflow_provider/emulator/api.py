"""The API's endpoints below /v1."""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from siliconflow_provider.emulator.batches import BatchStore
from siliconflow_provider.emulator.creation import create_request
from siliconflow_provider.emulator.errors import (
    INTERNAL,
    ApiError,
    bad_request,
    insufficient_balance,
    invalid_token,
    unknown_path,
)
from siliconflow_provider.emulator.files import FileStore
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.presentation import (
    Reference,
    account,
    batch_list,
    batch_object,
    file_list,
    uploaded_file,
)
from siliconflow_provider.emulator.signing import Signer

UPLOAD_BLOCK = 1 << 20
FILES_SHOWN = 10


@dataclass(frozen=True)
class Service:
    """The objects that the endpoints use."""

    api_key: str
    files: FileStore
    batches: BatchStore
    signer: Signer
    storage_port: int
    forms: Forms
    charge_balance: Decimal


async def _service(request: Request) -> Service:
    service: Service = request.state.service
    return service


Served = Annotated[Service, Depends(_service)]


async def _authorize(request: Request, service: Served) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(key.encode(), service.api_key.encode()):
        raise invalid_token()


async def _reference(request: Request, service: Served) -> Reference:
    """Return a function that makes signed URLs, or ids. The URLs have the host that the client used for the API."""
    if service.forms.result_ids:
        return str
    host = re.match(r"\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+", request.headers.get("host", ""))
    origin = f"http://{host[0] if host else '127.0.0.1'}:{service.storage_port}"
    return lambda file_id: service.signer.url(origin, file_id)


Referenced = Annotated[Reference, Depends(_reference)]
router = APIRouter(prefix="/v1", dependencies=[Depends(_authorize)])


def api_app(service: Service) -> ASGIApp:
    """Return the API's application, which works with this service."""
    endpoints = _endpoints()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await endpoints({**scope, "state": {**scope.get("state", {}), "service": service}}, receive, send)

    return app


@cache
def _endpoints() -> FastAPI:
    """Return the endpoints, and errors in the service's forms only: made once, because that takes 20 ms."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(router)
    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, unknown_path_error)
    app.add_exception_handler(Exception, _internal_error)
    return app


@router.get("/user/info")
def user_info(service: Served) -> Response:
    """Return the account."""
    return JSONResponse(account(service.charge_balance))


@router.post("/files")
async def upload_file(request: Request, service: Served) -> Response:
    """Store an uploaded file."""
    with service.files.receive(request.headers.get("content-type")) as upload:
        async for block in _blocks(request):
            await run_in_threadpool(upload.write, block)
        file = await run_in_threadpool(service.files.keep, upload)
    return JSONResponse(uploaded_file(file, service.forms))


@router.get("/files")
def list_files(request: Request, service: Served) -> Response:
    """List the newest uploaded files. The service has no paging here."""
    files, query = service.files.list(), request.query_params
    if service.forms.files_oldest_first:
        files.reverse()
    if service.forms.files_without_query:
        if query:
            raise bad_request(next(iter(query)), "is not a known parameter")
        return JSONResponse(file_list(files, service.forms))
    if service.forms.files_query_ignored:
        return JSONResponse(file_list(files[:FILES_SHOWN], service.forms))
    if query.get("purpose") != "batch":
        raise bad_request("purpose", "is required, and must be 'batch'")
    return JSONResponse(file_list(files[: _limit(query.get("limit")) or FILES_SHOWN], service.forms))


@router.get("/files/{file_id}/content")
def file_content(file_id: str, service: Served) -> Response:
    """Return the content of an uploaded file or a result file."""
    try:
        path = service.files.path(service.files.get(file_id).id)
    except ApiError:
        path = service.batches.result_path(file_id)
    return FileResponse(path, media_type="application/octet-stream")


@router.post("/batches")
async def create_batch(request: Request, service: Served, reference: Referenced) -> Response:
    """Create a batch."""
    checked = create_request(await json_object(request))
    if service.charge_balance <= 0:
        raise insufficient_balance()
    snapshot = await run_in_threadpool(service.batches.create, checked)
    return JSONResponse(batch_object(snapshot, reference, service.forms))


@router.get("/batches")
def list_batches(request: Request, service: Served, reference: Referenced) -> Response:
    """List a page of batches, newest first."""
    query = {} if service.forms.unpaged else request.query_params
    page, has_more = service.batches.list(query.get("after"), _limit(query.get("limit")))
    return JSONResponse(batch_list(page, has_more, reference, service.forms))


@router.get("/batches/{batch_id}")
def get_batch(batch_id: str, service: Served, reference: Referenced) -> Response:
    """Return one batch."""
    return JSONResponse(batch_object(service.batches.get(batch_id), reference, service.forms))


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, service: Served, reference: Referenced) -> Response:
    """Start to cancel a batch."""
    return JSONResponse(batch_object(service.batches.cancel(batch_id), reference, service.forms))


def _limit(text: str | None) -> int | None:
    if text is not None and not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise bad_request("limit", "must be an integer of at least 1")
    return int(text) if text else None


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in large blocks, because each block is passed to another thread."""
    block = bytearray()
    try:
        async for chunk in request.stream():
            block += chunk
            if len(block) >= UPLOAD_BLOCK:
                yield bytes(block)
                block.clear()
    except ClientDisconnect:
        raise bad_request("file", "the upload broke off") from None
    if block:
        yield bytes(block)


async def json_object(request: Request) -> dict[str, Any]:
    """Return the request's JSON object, or raise a 400."""
    try:
        body = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, ClientDisconnect):
        raise bad_request("body", "must be JSON") from None
    if not isinstance(body, dict):
        raise bad_request("body", "must be a JSON object")
    return body


def api_error(request: Request, error: Exception) -> Response:
    """Return the response of an ApiError."""
    assert isinstance(error, ApiError)  # noqa: S101 - for the type checker: it is registered for this class
    return JSONResponse(error.body, error.status)


def unknown_path_error(request: Request, error: Exception) -> Response:
    """Return the response for an unknown path."""
    return api_error(request, unknown_path())


def _internal_error(request: Request, error: Exception) -> Response:
    message = "the emulator failed; its terminal shows why"
    return JSONResponse({"code": INTERNAL, "message": message, "data": None}, 500)
