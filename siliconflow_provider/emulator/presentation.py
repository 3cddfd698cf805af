"""Batches and files as the service shows them; where it has been seen to vary, the forms belong here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from siliconflow_provider.emulator.batches import Snapshot
from siliconflow_provider.emulator.database import UploadedFile

Reference = Callable[[str], str]


def uploaded_file(file: UploadedFile) -> dict[str, Any]:
    """The answer to an upload: the wrapped form, with `createdAt`."""
    data = _file(file) | {"createdAt": math.floor(file.created_at)}
    return {"code": 20000, "message": "Ok", "status": True, "data": data}


def file_list(files: list[UploadedFile]) -> dict[str, Any]:
    """The plain form of the list, with `created_at`."""
    items = [_file(file) | {"created_at": math.floor(file.created_at)} for file in files]
    return {"object": "list", "data": items}


def batch_object(snapshot: Snapshot, reference: Reference) -> dict[str, Any]:
    """A batch; `reference` turns the id of a result file into what users are given for it."""
    batch, state = snapshot.batch, snapshot.state
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": list(batch.check.errors) if batch.check and state.status == "failed" else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": state.status,
        "output_file_id": reference(snapshot.output_id) if snapshot.output_id else None,
        "error_file_id": reference(snapshot.error_id) if snapshot.error_id else None,
        "created_at": math.floor(batch.created_at),
        "in_progress_at": _seconds(state.in_progress_at),
        "expires_at": math.floor(batch.created_at) + batch.window_seconds,
        "finalizing_at": _seconds(state.finalizing_at),
        "completed_at": _seconds(state.completed_at),
        "failed_at": _seconds(state.failed_at),
        "expired_at": _seconds(state.expired_at),
        "cancelling_at": _seconds(state.cancelling_at),
        "cancelled_at": _seconds(state.cancelled_at),
        "request_counts": asdict(snapshot.counts) if snapshot.counts else None,
        "metadata": batch.metadata,
    }


def batch_list(snapshots: list[Snapshot], has_more: bool, reference: Reference) -> dict[str, Any]:
    """A page of batches, each with the name of its input file."""
    items = [batch_object(snapshot, reference) | {"file_name": snapshot.batch.file_name} for snapshot in snapshots]
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _file(file: UploadedFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "filename": file.filename,
        "purpose": "batch",
    }


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else math.floor(moment)
