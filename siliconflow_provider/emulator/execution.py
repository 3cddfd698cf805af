"""Write the lines of a batch's output and error file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from siliconflow_provider.emulator.answer_lines import answer_line, error_line
from siliconflow_provider.emulator.answer_rules import AnswerRules
from siliconflow_provider.emulator.answers import chat_completion
from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.plans import Plan, Requests
from siliconflow_provider.emulator.request_lines import decode, numbered_lines, request_fault
from siliconflow_provider.emulator.state import Batch, State

Kind = Literal["output", "error"]

GARBAGE = b"\xff\xfe\x80 neither JSON nor UTF-8 \xc3(\n"

encode = msgspec.json.Encoder().encode


def result_lines(batch: Batch, state: State, kind: Kind, source: Path, forms: Forms) -> Iterator[bytes]:
    """Yield the file's lines. Every second request comes first, so that no client relies on the order of the input.

    Requests that a cancelled batch did not run are in neither file (not documented).
    """
    answers = AnswerRules(batch.plan.answers)
    line_of = partial(_output_line, answers) if kind == "output" else _error_line
    wanted = _wanted(batch, state, kind)
    request: dict[str, Any] | None = None
    for parity in (1, 0):
        with source.open("rb") as lines:
            for index, (_, line) in enumerate(numbered_lines(lines)):
                if index % 2 == parity and index in wanted:
                    request = decode(line)
                    written = encode(line_of(batch, state, index, request, forms)) + b"\n"
                    yield from _as_planned(written, index, request["custom_id"], batch.plan)
    if kind == "output" and request is not None:
        for number in range(batch.plan.unknown_ids):
            unknown = request | {"custom_id": f"unknown-{number}"}
            yield encode(_output_line(answers, batch, state, -1 - number, unknown, forms)) + b"\n"


def _wanted(batch: Batch, state: State, kind: Kind) -> frozenset[int]:
    """Return the positions of the requests that have a line in this file."""
    if batch.check is None or state.finished is None:
        return frozenset()
    bad = frozenset(batch.check.bad)
    run = frozenset(range(state.finished))
    if kind == "output":
        return run - bad
    if state.status == "expired":
        return frozenset(range(batch.check.total)) - (run - bad)
    return run & bad


def _as_planned(line: bytes, index: int, custom_id: str, plan: Plan) -> Iterator[bytes]:
    """Yield the line as planned: not at all, once or twice, whole or damaged."""

    def chosen(requests: Requests | None) -> bool:
        return requests is not None and requests.choose(index, custom_id)

    if chosen(plan.missing) or chosen(plan.unwritten):
        return
    if chosen(plan.garbled):
        line = GARBAGE
    elif chosen(plan.cut):
        line = line[: len(line) // 2] + b"\n"
    yield line
    if chosen(plan.duplicated):
        yield line


def _output_line(
    answers: AnswerRules, batch: Batch, state: State, index: int, request: dict[str, Any], forms: Forms
) -> dict[str, Any]:
    key = _key(batch, index)
    model = batch.model or request["body"]["model"]
    created = int(state.in_progress_at or batch.created_at)
    completion = chat_completion(request["body"], model, f"chatcmpl-{key}", created, answers.answer_to(request))
    return answer_line(key, batch.plan.written_id(request["custom_id"]), completion, forms)


def _error_line(batch: Batch, state: State, index: int, request: dict[str, Any], forms: Forms) -> dict[str, Any]:
    ran = state.finished is not None and index < state.finished
    error: Any
    fault, failing = request_fault(request, batch.endpoint), batch.plan.failing
    if not ran:
        error = {
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired.",
        }
    elif fault is None and failing is not None:
        error = {"code": failing.code, "message": failing.message} if failing.error is None else failing.error
    else:
        error = {"code": "invalid_request", "message": fault or ""}
    return error_line(_key(batch, index), batch.plan.written_id(request["custom_id"]), error, forms, ran=ran)


def _key(batch: Batch, index: int) -> str:
    return hashlib.blake2b(f"{batch.id}/{index}".encode(), digest_size=8).hexdigest()
