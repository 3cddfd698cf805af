"""The lines of a batch's output and error file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from siliconflow_provider.emulator.answers import chat_completion
from siliconflow_provider.emulator.request_lines import decode, numbered_lines, request_fault
from siliconflow_provider.emulator.state import Batch, State

Kind = Literal["output", "error"]

encode = msgspec.json.Encoder().encode


def result_lines(batch: Batch, state: State, kind: Kind, source: Path) -> Iterator[bytes]:
    """The file's lines, every second request first, so that nobody relies on the order of the input.

    A request that a cancelled batch did not run is in neither file (not documented).
    """
    line_of = _output_line if kind == "output" else _error_line
    wanted = _wanted(batch, state, kind)
    for parity in (1, 0):
        with source.open("rb") as lines:
            for index, (_, line) in enumerate(numbered_lines(lines)):
                if index % 2 == parity and index in wanted:
                    yield encode(line_of(batch, state, index, decode(line))) + b"\n"


def _wanted(batch: Batch, state: State, kind: Kind) -> frozenset[int]:
    """Positions of the requests that have a line in this file."""
    if batch.check is None or state.finished is None:
        return frozenset()
    bad = frozenset(batch.check.bad)
    run = frozenset(range(state.finished))
    if kind == "output":
        return run - bad
    if state.status == "expired":
        return frozenset(range(batch.check.total)) - (run - bad)
    return run & bad


def _output_line(batch: Batch, state: State, index: int, request: dict[str, Any]) -> dict[str, Any]:
    key = _key(batch, index)
    model = batch.model or request["body"]["model"]
    created = int(state.in_progress_at or batch.created_at)
    completion = chat_completion(request["body"], model, f"chatcmpl-{key}", created)
    return {
        "id": f"batch_req_{key}",
        "custom_id": request["custom_id"],
        "response": {"body": completion},
        "error": None,
    }


def _error_line(batch: Batch, state: State, index: int, request: dict[str, Any]) -> dict[str, Any]:
    if state.finished is not None and index < state.finished:
        error = {"code": "invalid_request", "message": request_fault(request, batch.endpoint)}
    else:
        error = {
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired.",
        }
    return {
        "id": f"batch_req_{_key(batch, index)}",
        "custom_id": request["custom_id"],
        "response": None,
        "error": error,
    }


def _key(batch: Batch, index: int) -> str:
    return hashlib.blake2b(f"{batch.id}/{index}".encode(), digest_size=8).hexdigest()
