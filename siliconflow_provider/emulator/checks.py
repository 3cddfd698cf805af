"""Check an input file when its batch leaves the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from siliconflow_provider.emulator.request_lines import decode, numbered_lines, request_fault
from siliconflow_provider.emulator.state import Check

MOST_REQUESTS = 5_000
MOST_ERRORS = 10


Fails = Callable[[int, dict[str, Any]], bool]
IsMissing = Callable[[int, str], bool]


def check_input(
    lines: Iterable[bytes],
    endpoint: str,
    model: str | None,
    fails: Fails = lambda index, request: False,
    is_missing: IsMissing = lambda index, custom_id: False,
) -> Check:
    """Read an input file and return its check.

    :param model: the batch's replace.model, which replaces the model of each line
    :param fails: called with position and content of a valid request; True if it must fail
    :param is_missing: called with position and custom_id of a request; True if it is not counted
    """
    file = _InputFile(endpoint, model, fails, is_missing)
    errors: list[str] = []
    for number, line in numbered_lines(lines):
        error = file.error_of(line)
        if error:
            errors.append(f"line {number}: {error}")
        if file.total > MOST_REQUESTS or len(errors) == MOST_ERRORS:
            break
    if not file.total:
        errors.append("the input file has no line")
    return Check(file.total, tuple(file.bad), tuple(errors), tuple(file.missing))


class _InputFile:
    """The findings in the lines that were read."""

    def __init__(self, endpoint: str, model: str | None, fails: Fails, is_missing: IsMissing) -> None:
        self.total = 0
        self.bad: list[int] = []
        self.missing: list[int] = []
        self._endpoint = endpoint
        self._replaced = model is not None
        self._fails = fails
        self._is_missing = is_missing
        self._model: str | None = None
        self._ids: set[str] = set()

    def error_of(self, line: bytes) -> str | None:
        """Check the next request, and return its error if that makes the whole file invalid."""
        self.total += 1
        if self.total > MOST_REQUESTS:
            return f"a file has at most {MOST_REQUESTS:,} requests"
        try:
            request = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return "not JSON"
        if not isinstance(request, dict):
            return "not a JSON object"
        error = self._id_error(request.get("custom_id")) or self._model_error(request.get("body"))
        index = self.total - 1
        if error is None and (request_fault(request, self._endpoint) or self._fails(index, request)):
            self.bad.append(index)
        if error is None and self._is_missing(index, request["custom_id"]):
            self.missing.append(index)
        return error

    def _id_error(self, custom_id: object) -> str | None:
        if not isinstance(custom_id, str) or not custom_id:
            return "custom_id is missing or not a string"
        if custom_id in self._ids:
            return f"custom_id {custom_id!r} is not unique"
        self._ids.add(custom_id)
        return None

    def _model_error(self, body: Any) -> str | None:
        if self._replaced:
            return None
        model = body.get("model") if isinstance(body, dict) else None
        if not isinstance(model, str) or not model:
            return "body.model is missing and the batch has no replace.model"
        self._model = self._model or model
        if model != self._model:
            return f"body.model {model!r} differs from {self._model!r} and the batch has no replace.model"
        return None
