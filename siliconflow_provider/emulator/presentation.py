"""Build the JSON of batches and files in the service's forms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from siliconflow_provider.emulator.batches import Snapshot
from siliconflow_provider.emulator.database import UploadedFile
from siliconflow_provider.emulator.forms import Forms

Reference = Callable[[str], str]
CUT_METADATA = 32
BALANCE = Decimal("0.88")
NUMBERED = re.compile(r"line (\d+): (.*)", re.DOTALL)


def account(charge_balance: Decimal) -> dict[str, Any]:
    """Return the account. Its balance besides the charged one is 0.88."""
    amounts = {"balance": BALANCE, "chargeBalance": charge_balance, "totalBalance": BALANCE + charge_balance}
    texts = {name: f"{amount:.2f}" for name, amount in amounts.items()}
    return _wrapped({"id": "user-emulator", "name": "emulator", "status": "normal", **texts})


def uploaded_file(file: UploadedFile, forms: Forms) -> dict[str, Any]:
    """Return the response to an upload, by default wrapped and with `createdAt`."""
    return _file(file, "created_at") if forms.flat_upload else _wrapped(_file(file, "createdAt"))


def file_list(files: list[UploadedFile], forms: Forms) -> dict[str, Any]:
    """Return the list of files, by default plain and with `created_at`."""
    if forms.wrapped_file_list:
        return _wrapped([_file(file, "createdAt") for file in files])
    if forms.nested_file_list:
        return _wrapped({"object": "file", "data": [_file(file, "createdAt") for file in files]})
    return {"object": "list", "data": [_file(file, "created_at") for file in files]}


def batch_object(snapshot: Snapshot, reference: Reference, forms: Forms) -> dict[str, Any]:
    """Return a batch. `reference` turns the id of a result file into a signed URL or an id."""
    batch, state = snapshot.batch, snapshot.state
    errors = batch.check.errors if batch.check and state.status == "failed" else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": None if errors is None else _error_objects(errors) if forms.error_objects else list(errors),
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.plan.shown_as.get(state.status, state.status),
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
        "request_counts": asdict(snapshot.shown_counts) if snapshot.shown_counts else None,
        "metadata": _metadata(batch.metadata, forms),
    }


def batch_list(snapshots: list[Snapshot], has_more: bool, reference: Reference, forms: Forms) -> dict[str, Any]:
    """Return a page of batches, each with the name of its input file."""
    items = [
        _listed(batch_object(snapshot, reference, forms) | {"file_name": snapshot.batch.file_name}, forms)
        for snapshot in snapshots
    ]
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        **({} if forms.without_has_more else {"has_more": has_more}),
    }


def _listed(item: dict[str, Any], forms: Forms) -> dict[str, Any]:
    """Return a batch's item in the list, without the fields that the list omits."""

    def is_omitted(field: str) -> bool:
        is_time_or_result = field.endswith("_at") or field in ("output_file_id", "error_file_id")
        return (field == "metadata" and forms.list_without_metadata) or (is_time_or_result and forms.list_without_times)

    return {field: value for field, value in item.items() if not is_omitted(field)}


def _metadata(metadata: dict[str, str] | None, forms: Forms) -> dict[str, str] | None:
    if metadata is None or forms.metadata_dropped:
        return None
    if forms.metadata_users_only:
        return {key: value for key, value in metadata.items() if not key.startswith("airflow_")}
    if forms.metadata_cut:
        return {key: value[:CUT_METADATA] for key, value in metadata.items()}
    return metadata


def _error_objects(errors: tuple[Any, ...]) -> dict[str, Any]:
    found = [(NUMBERED.fullmatch(str(error)), error) for error in errors]
    data = [
        {"code": "invalid_request", "message": match[2] if match else error, "line": int(match[1]) if match else None}
        for match, error in found
    ]
    return {"object": "list", "data": data}


def _wrapped(data: Any) -> dict[str, Any]:
    return {"code": 20000, "message": "Ok", "status": True, "data": data}


def _file(file: UploadedFile, time_field: str) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        time_field: math.floor(file.created_at),
        "filename": file.filename,
        "purpose": "batch",
    }


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else math.floor(moment)
