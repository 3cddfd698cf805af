"""Routes of the tab of a task instance: its batches, and the files that its job has published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool

from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import AIRFLOW_ROUND, RESERVED_PREFIX
from siliconflow_provider.drawing.document import STYLES_ONLY
from siliconflow_provider.drawing.markup import element
from siliconflow_provider.drawing.phases import BatchBar
from siliconflow_provider.plugins.access import Viewer, ViewerDep
from siliconflow_provider.plugins.batch_lists import BatchList
from siliconflow_provider.plugins.connections import is_known
from siliconflow_provider.plugins.list_page import bar_of
from siliconflow_provider.plugins.manifests import batch_bars
from siliconflow_provider.plugins.pages import HEADERS, page
from siliconflow_provider.plugins.rows import Row, may_cancel, rows_of
from siliconflow_provider.plugins.stored_files import Publisher, UnreadableError, read_file, read_manifest
from siliconflow_provider.plugins.summaries import TaskFacts, facts_of
from siliconflow_provider.plugins.task_page import JobView, task_parts
from siliconflow_provider.plugins.tasks import TaskInstance
from siliconflow_provider.plugins.threads import BusyError, Threads

router = APIRouter()
STORAGE_SECONDS = 10.0
_LONGEST_INDEX = 9
_OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
# The answers of models are in reports: nothing in them may run, load or be sent.
REPORT_HEADERS = {**HEADERS, "Content-Security-Policy": f"{STYLES_ONLY}; frame-ancestors 'self'; sandbox"}
_PLACE = "{dag_id}/{task_id}/{map_index}/{run_id:path}"


@router.get(f"/task/{_PLACE}")
async def show_task(
    request: Request, viewer: ViewerDep, dag_id: str, task_id: str, map_index: str, run_id: str
) -> HTMLResponse:
    """Show the batches of a task instance."""
    task, facts = await _facts(viewer, dag_id, task_id, map_index, run_id)
    if facts.conn_id is None:
        text = "This task instance has no SiliconFlow batches."
        return page("Batches", element("h1", "Batches"), element("p", text))
    root = request.scope["root_path"]
    manifest, problems = await _manifest(request, task, facts)
    found = BatchList() if manifest.get("complete") is True else await request.app.state.lists.get(facts.conn_id)
    view = await run_in_threadpool(_job_view, viewer, task, facts, found, manifest, problems, root)
    return page("Batches", *task_parts(view, root, is_over=facts.state in _OVER))


def _job_view(
    viewer: Viewer,
    task: TaskInstance,
    facts: TaskFacts,
    found: BatchList,
    manifest: Mapping[str, Any],
    problems: list[str],
    root: str,
) -> JobView:
    own = [batch for batch in found.batches if _is_own(batch, task, facts, found)]
    rows = rows_of(replace(found, batches=tuple(own)), viewer.dags)
    rows.sort(key=lambda row: (_round(row), str(row.batch.timing.created_at), row.batch.id))
    bars: list[tuple[int, BatchBar]] = [(_round(row), bar_of(row.batch.id, row)) for row in rows]
    paths = {"Manifest": facts.summary.manifest_path, "Report": facts.summary.report_path}
    return JobView(
        facts.conn_id or "",
        # The manifest has the batches that the service has deleted, too.
        batch_bars(manifest) or bars,
        found.moment,
        [row.batch.id for row in rows if may_cancel(row, viewer.dags, False)],
        facts.summary,
        manifest,
        [*problems, *([_problem(viewer, facts.conn_id or "", found)] if found.problem else [])],
        {name: f"{root}/task-{name.lower()}/{task.place}" for name, path in paths.items() if path},
    )


def _is_own(batch: Batch, task: TaskInstance, facts: TaskFacts, found: BatchList) -> bool:
    """Return True if a batch names the task instance, or the task instance the batch, which names no other one.

    Users can push an XCom that names any batch.
    """
    is_unmarked = not any(name.startswith(RESERVED_PREFIX) for name in batch.metadata)
    is_named = batch.id in facts.batch_ids and (is_unmarked or task.is_named_by(batch))
    return is_named or task.owns(batch, found.deployments)


def _problem(viewer: Viewer, conn_id: str, found: BatchList) -> str:
    """Return a sentence about a list. That of the list may tell what the connection is."""
    if viewer.may_read_connection(conn_id) and is_known(conn_id):
        return found.problem
    return "The newest batches of the connection could not be read. Users who may read the connection see the reason."


def _round(row: Row) -> int:
    text = row.batch.metadata.get(AIRFLOW_ROUND, "")
    return int(text) if text.isdecimal() and len(text) < 6 else 1


@router.get(f"/task-report/{_PLACE}")
async def show_report(
    request: Request, viewer: ViewerDep, dag_id: str, task_id: str, map_index: str, run_id: str
) -> Response:
    """Serve the report that the task instance names. Nothing in it can run."""
    task, facts = await _facts(viewer, dag_id, task_id, map_index, run_id)
    content = await _file(request, facts.summary.report_path, "report.html", Publisher(task.label, facts.output_path))
    return Response(content, media_type="text/html; charset=utf-8", headers=REPORT_HEADERS)


@router.get(f"/task-manifest/{_PLACE}")
async def show_manifest(
    request: Request, viewer: ViewerDep, dag_id: str, task_id: str, map_index: str, run_id: str
) -> Response:
    """Serve the manifest that the task instance names."""
    task, facts = await _facts(viewer, dag_id, task_id, map_index, run_id)
    content = await _file(
        request, facts.summary.manifest_path, "manifest.json", Publisher(task.label, facts.output_path)
    )
    return Response(content, media_type="application/json", headers=REPORT_HEADERS)


async def _facts(
    viewer: Viewer, dag_id: str, task_id: str, map_index: str, run_id: str
) -> tuple[TaskInstance, TaskFacts]:
    """Return a task instance that the user may read.

    :raises HTTPException: if the user may not read it, or it does not exist
    """
    await run_in_threadpool(viewer.check_reads_task, dag_id)
    # Airflow leaves `{MAP_INDEX}` as it is in the address of a task that is not mapped.
    index = map_index if map_index.isdecimal() else "-1"
    # Databases refuse longer numbers, and some refuse null characters.
    can_exist = len(index) <= _LONGEST_INDEX and "\0" not in f"{dag_id}{task_id}{run_id}"
    task = TaskInstance(dag_id, task_id, run_id, int(index) if can_exist else -1)
    facts = await run_in_threadpool(facts_of, task) if can_exist else TaskFacts()
    if not facts.is_known:
        raise HTTPException(404, "This task instance does not exist.")
    return task, facts


async def _manifest(request: Request, task: TaskInstance, facts: TaskFacts) -> tuple[Mapping[str, Any], list[str]]:
    path = facts.summary.manifest_path
    if path is None:
        return {}, []
    threads: Threads = request.app.state.storage_threads
    try:
        return await threads.run(
            partial(read_manifest, path, Publisher(task.label, facts.output_path)), STORAGE_SECONDS
        ), []
    except UnreadableError as error:
        return {}, [str(error)]
    except (TimeoutError, BusyError):
        return {}, ["The storage of manifest.json has not answered."]


async def _file(request: Request, path: str | None, name: str, publisher: Publisher) -> bytes:
    if path is None:
        raise HTTPException(404, f"This task instance has no {name}.")
    threads: Threads = request.app.state.storage_threads
    try:
        return await threads.run(partial(read_file, path, name, publisher), STORAGE_SECONDS)
    except UnreadableError as error:
        raise HTTPException(502, str(error)) from None
    except TimeoutError:
        raise HTTPException(504, f"The storage of {name} has not answered.") from None
