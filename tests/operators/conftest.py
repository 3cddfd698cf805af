from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred

from siliconflow_provider.api.client import SiliconFlowClient


class TaskInstance:
    """What operators use of a task instance."""

    dag_id = "nightly"
    task_id = "create"
    run_id = "manual__2026-11-23T00:00:00+00:00"
    map_index = -1
    try_number = 1
    max_tries = 3

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance()}


@pytest.fixture
def upload(client: SiliconFlowClient) -> Callable[[bytes], str]:
    """Brings a request file to the emulator; gives its id."""
    return lambda content: client.upload_file(io.BytesIO(content)).id


@pytest.fixture
def file_id(upload: Callable[[bytes], str], sums: Callable[[int], bytes]) -> str:
    """An uploaded file of twelve requests."""
    return upload(sums(12))


@pytest.fixture
def run(context: dict[str, Any]) -> Callable[..., Any]:
    """Run a task to its end as Airflow does: what defers goes on in a fresh operator with the trigger's event."""

    async def only_event(path: str, arguments: dict[str, Any]) -> Any:
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**arguments)
        (event,) = [each async for each in trigger.run()]
        return json.loads(json.dumps(event.payload))

    def run_task(make: Callable[[], BaseOperator]) -> Any:
        try:
            return make().execute(context)
        except TaskDeferred as deferral:
            event = asyncio.run(only_event(*deferral.trigger.serialize()))
            return getattr(make(), deferral.method_name)(context, event=event)

    return run_task
