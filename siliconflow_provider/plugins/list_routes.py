"""Routes of the page with all batches of a connection, and of their cancellation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import cancel, is_running
from siliconflow_provider.exceptions import UnknownConnectionError
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.plugins import PREFIX
from siliconflow_provider.plugins.access import Viewer, ViewerDep
from siliconflow_provider.plugins.batch_lists import BatchList
from siliconflow_provider.plugins.cancellation import check_form, new_token, question_parts
from siliconflow_provider.plugins.connections import ServerHook, is_known, readable_connections
from siliconflow_provider.plugins.list_page import ListView, list_parts, tasks_of
from siliconflow_provider.plugins.pages import page
from siliconflow_provider.plugins.rows import PAGE_SIZE, Query, Row, may_edit, rows_of
from siliconflow_provider.plugins.summaries import summaries_of
from siliconflow_provider.plugins.threads import BusyError, Threads

log = logging.getLogger(__name__)

router = APIRouter()
T = TypeVar("T")
# A page waits so long for the service; a call of the service itself ends a little later.
CALL_SECONDS = 15.0
_REQUEST_SECONDS = 10.0
_MAY_NOT_CANCEL = "You may not cancel this batch: you may not edit its DAG, or its connection."
_UNKNOWN = (
    "These pages know no SiliconFlow connection {!r}. An id must be written as in Airflow's database; that of an "
    "environment variable in lower case. For a connection of a secrets backend, create one with the same id and type "
    "siliconflow in Airflow, without a password."
)
_MESSAGES = {"cancelled": "The batch is being cancelled.", "over": "The batch had ended before it could be cancelled."}


@router.get("/batches")
async def show_batches(request: Request, viewer: ViewerDep) -> HTMLResponse:
    """Show the batches of a connection that the user may read."""
    values = dict(request.query_params)
    conn_ids = await run_in_threadpool(readable_connections, viewer)
    conn_id = values.get("conn_id") or (DEFAULT_CONN_ID if DEFAULT_CONN_ID in conn_ids else next(iter(conn_ids), ""))
    if not conn_id:
        raise HTTPException(403, "You may not read any SiliconFlow connection.")
    await run_in_threadpool(_check_reads_connection, viewer, conn_id)
    found = await request.app.state.lists.get(conn_id)
    return await run_in_threadpool(_list_page, request, viewer, sorted({*conn_ids, conn_id}), conn_id, found)


def _list_page(request: Request, viewer: Viewer, conn_ids: list[str], conn_id: str, found: BatchList) -> HTMLResponse:
    root = request.scope["root_path"]
    rows = rows_of(found, viewer.dags)
    query = Query.of(request.query_params)
    matching = query.apply(rows)
    query = query.within(len(matching))
    shown = matching[(query.page - 1) * PAGE_SIZE : query.page * PAGE_SIZE]
    view = ListView(
        root,
        root.removesuffix(PREFIX),
        conn_ids,
        conn_id,
        found,
        viewer.dags,
        viewer.may_edit_connection(conn_id),
        query,
        _MESSAGES.get(request.query_params.get("message", ""), ""),
    )
    tasks = tasks_of(shown)
    dag_ids = set(filter(viewer.may_read_xcoms, {task.dag_id for task in tasks}))
    summaries = summaries_of([task for task in tasks if task.dag_id in dag_ids])
    parts = list_parts(view, rows, shown, len(matching), summaries)
    return page("SiliconFlow batches", *parts)


@router.get("/cancel")
async def ask_before_cancelling(
    request: Request, viewer: ViewerDep, conn_id: str, batch_id: str, from_task: str = ""
) -> HTMLResponse:
    """Ask before a batch is cancelled.

    :param from_task: not empty if the question comes from the tab of a task instance
    """
    row = await _cancellable(request, viewer, conn_id, batch_id)
    token = new_token(viewer.user_id, _action(conn_id, batch_id))
    address = f"{request.scope['root_path']}/cancel?{request.url.query}"
    return page("Cancel a batch", *question_parts(row, token, address, _back(request, conn_id, row, from_task)))


@router.post("/cancel")
async def cancel_batch(
    request: Request,
    viewer: ViewerDep,
    conn_id: str,
    batch_id: str,
    token: Annotated[str, Form()] = "",
    from_task: str = "",
) -> Response:
    """Cancel a batch."""
    check_form(request, viewer.user_id, _action(conn_id, batch_id), token)
    row = await _cancellable(request, viewer, conn_id, batch_id)

    def act() -> tuple[Batch, bool]:
        return cancel(ServerHook(conn_id).get_quick_conn(_REQUEST_SECONDS), batch_id)

    batch, is_cancelled = await _ask_service(request, act)
    log.info("user %s has cancelled batch %s of connection %r", viewer.user_id, batch.id, conn_id)
    request.app.state.lists.show_cancelled(conn_id, batch)
    back = _back(request, conn_id, row, from_task)
    return RedirectResponse(back if from_task else f"{back}&message={'cancelled' if is_cancelled else 'over'}", 303)


async def _cancellable(request: Request, viewer: Viewer, conn_id: str, batch_id: str) -> Row:
    """Return the row of a batch, as the service knows it now.

    :raises HTTPException: if the user may not cancel it, or it has ended
    """

    def may_read() -> bool:
        if not viewer.dags.editable:
            _check_reads_connection(viewer, conn_id)
        return viewer.may_read_connection(conn_id) and is_known(conn_id)

    def read() -> BatchList:
        hook = ServerHook(conn_id)
        batch = hook.get_quick_conn(_REQUEST_SECONDS).get_batch(batch_id)
        return BatchList((batch,), deployments=(hook.deployment, ""))

    def check(found: BatchList) -> Row:
        row = rows_of(found, viewer.dags)[0]
        if not may_edit(row, viewer.dags, is_reader and viewer.may_edit_connection(conn_id)):
            raise HTTPException(403, _MAY_NOT_CANCEL)
        if not is_running(row.batch):
            raise HTTPException(409, f"Batch {row.batch.id} is {row.batch.status}: there is nothing to cancel.")
        return row

    is_reader = await run_in_threadpool(may_read)
    try:
        found = await _ask_service(request, read)
    except HTTPException:
        if is_reader:
            raise
        # The sentence may tell what the connection is.
        raise HTTPException(403, _MAY_NOT_CANCEL) from None
    return await run_in_threadpool(check, found)


def _action(conn_id: str, batch_id: str) -> str:
    return f"cancel\0{conn_id}\0{batch_id}"


def _back(request: Request, conn_id: str, row: Row, from_task: str) -> str:
    """Return the address of the page from which a batch is cancelled."""
    root = request.scope["root_path"]
    if from_task and row.task is not None:
        return f"{root}/task/{row.task.place}"
    return f"{root}/batches?{urlencode({'conn_id': conn_id})}"


async def _ask_service(request: Request, action: Callable[[], T]) -> T:
    """Return what a call of the service returns; its errors become sentences."""
    try:
        threads: Threads = request.app.state.service_threads
        return await threads.run(action, CALL_SECONDS)
    except TimeoutError:
        raise HTTPException(504, "The service has not answered. A cancellation may have been carried out.") from None
    except (SiliconFlowError, UnknownConnectionError) as error:
        raise HTTPException(502, str(error)) from None
    except BusyError:
        raise
    except Exception as error:
        # Such as one of a secrets backend.
        log.exception("a call of the service failed")
        raise HTTPException(502, f"The call failed: {type(error).__name__}. The API server's log has it.") from None


def _check_reads_connection(viewer: Viewer, conn_id: str) -> None:
    if not viewer.may_read_connection(conn_id):
        raise HTTPException(403, f"You may not read the connection {conn_id!r}.")
    if not is_known(conn_id):
        raise HTTPException(404, _UNKNOWN.format(conn_id))
