"""The app with the pages, which Airflow's API server mounts. Each route asks for the user's permissions first."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from siliconflow_provider.plugins import list_routes, task_routes
from siliconflow_provider.plugins.batch_lists import BatchLists, read_list
from siliconflow_provider.plugins.pages import error_page
from siliconflow_provider.plugins.threads import BusyError, Threads

# Calls of the service, and of object storage, at a time.
_SERVICE_THREADS, _STORAGE_THREADS = 8, 4


def create_app() -> FastAPI:
    """Return the app. Its lists and threads are its own."""
    app = FastAPI(title="SiliconFlow", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service_threads = Threads(_SERVICE_THREADS)
    app.state.storage_threads = Threads(_STORAGE_THREADS)
    app.state.lists = BatchLists(read_list, app.state.service_threads)
    app.include_router(list_routes.router)
    app.include_router(task_routes.router)
    app.add_exception_handler(StarletteHTTPException, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(BusyError, _busy)
    return app


async def _refusal(request: Request, error: Any) -> HTMLResponse:
    return error_page(error.status_code, str(error.detail))


async def _invalid(request: Request, error: Any) -> HTMLResponse:
    return error_page(422, "The address of this page is not complete.")


async def _busy(request: Request, error: Any) -> HTMLResponse:
    return error_page(503, "The API server waits for too many answers at the same time. Try again later.")
