"""Plans whose answers a function of a test gives."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from siliconflow_provider.emulator.answer_rules import Answer, read_answer
from siliconflow_provider.emulator.plans import Plan
from siliconflow_provider.emulator.request_lines import decode, numbered_lines


class FunctionPlan(Plan, frozen=True, kw_only=True):
    """A plan with a function. It returns the answer to a request line: a text, the fields of an Answer, or None."""

    function: Callable[[dict[str, Any]], Any]


def with_answers(plan: Plan, lines: Iterable[bytes], model: str | None) -> Plan:
    """Return the plan with the answers that its function gives now, so that they can be stored.

    If the function raises an error, the batch fails with it.

    :param model: the batch's replace.model, which the function sees in each body
    """
    if not isinstance(plan, FunctionPlan):
        return plan
    fields = {name: getattr(plan, name) for name in Plan.__struct_fields__}
    answers: list[Answer] = []
    for _, line in numbered_lines(lines):
        request = _request(line, model)
        if request is None:
            continue  # the check of the file says why
        custom_id = request["custom_id"]
        try:
            given = plan.function(request)
            answer = None if given is None else read_answer("answers", given)
        except Exception as error:
            traceback.print_exc()
            message = f"answers: the function failed for request {custom_id!r}: {type(error).__name__}: {error}"
            return Plan(**fields | {"end": "failed", "errors": (message,)})
        if answer is not None:
            answers.append(msgspec.structs.replace(answer, custom_id=custom_id, contains=None))
    return Plan(**fields | {"answers": tuple(answers)})


def _request(line: bytes, model: str | None) -> dict[str, Any] | None:
    """Return a request line as the model receives it, or None for an invalid one."""
    try:
        request = decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(request, dict) or not isinstance(request.get("custom_id"), str):
        return None
    if model is not None and isinstance(request.get("body"), dict):
        request["body"]["model"] = model
    return request
