"""Turn a batch into the JSON document, and into the texts, that the commands print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import printable, word
from siliconflow_provider.api.session import address
from siliconflow_provider.batches import AIRFLOW_TASK


def document_of(batch: Batch, client: SiliconFlowClient) -> dict[str, Any]:
    """Return a batch as JSON. No value is a signed URL, holds the key, or has terminal commands."""
    counts = batch.request_counts
    document = {
        "id": batch.id,
        "status": batch.status,
        "final_status": batch.final_status,
        "task": task_of(batch.metadata.get(AIRFLOW_TASK)),
        "requests": None
        if counts is None
        else {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        "timing": batch.timing.to_report(),
        "completion_window": batch.completion_window,
        "endpoint": batch.endpoint,
        "file_name": batch.file_name,
        "input_file": _file_text(batch.input_file_id),
        "output_file": _file_text(batch.output_file_id),
        "error_file": _file_text(batch.error_file_id),
        "errors": batch.errors,
        "metadata": batch.metadata,
    }
    return {name: without_secrets(value, client) for name, value in document.items()}


def without_secrets(value: Any, client: SiliconFlowClient) -> Any:
    """Return a value as JSON has it, in which no text is a signed URL, holds the key, or has terminal commands."""
    if isinstance(value, str):
        return printable(client.without_secrets(value))
    if isinstance(value, list):
        return [without_secrets(item, client) for item in value]
    if isinstance(value, dict):
        return {without_secrets(name, client): without_secrets(item, client) for name, item in value.items()}
    return value


def task_of(label: str | None) -> dict[str, Any] | None:
    """Return the task instance that a batch's metadata names; None if they name none.

    :param label: `dag/task/run/index`; the run's id may have slashes, and a long label has lost its end
    """
    parts = (label or "").split("/")
    if len(parts) < 3:
        return None
    index = parts.pop() if len(parts) > 3 and parts[-1].removeprefix("-").isdecimal() else None
    return {
        "dag_id": parts[0],
        "task_id": parts[1],
        "run_id": "/".join(parts[2:]),
        "map_index": None if index is None else int(index),
    }


def _file_text(reference: Any) -> str | None:
    """Return the id of a file at the service, or the host of a signed URL, whose query grants access."""
    if not reference:
        return None
    if not isinstance(reference, str):
        return "unreadable"
    if not reference.lower().startswith(("http://", "https://")):
        return word(reference)
    return f"signed URL at {word(address(reference))}"


def done_text(document: Mapping[str, Any]) -> str:
    """Return how many of a batch's requests are done, such as `120/5,000`; empty if it is unknown."""
    counts = document["requests"]
    return "" if counts is None else f"{counts['completed'] + counts['failed']:,}/{counts['total']:,}"


def task_text(document: Mapping[str, Any]) -> str:
    """Return the task instance of a batch as `dag/task/run`, with the index of a mapped one."""
    task = document["task"]
    if task is None:
        return ""
    index = "" if task["map_index"] in (None, -1) else f"/{task['map_index']}"
    return f"{task['dag_id']}/{task['task_id']}/{task['run_id']}{index}"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines with aligned columns."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def json_text(value: Any) -> str:
    """Return a value as JSON, in ASCII."""
    return json.dumps(value, indent=2)
