"""Turn one line of an output or error file into a result row."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider import jsonl
from siliconflow_provider.jsonl import LongLine
from siliconflow_provider.outputs.answer_lines import (
    AnswerLine,
    Body,
    Choice,
    custom_id_at_beginning,
    custom_id_of,
    read_body,
    read_line,
)


class AnswerError(msgspec.Struct, omit_defaults=True):
    """The reason why a request has no good answer.

    :param status: HTTP status of the request's own response, if it has one
    """

    code: str | None
    message: str
    status: int | None = None


class ResultRow(msgspec.Struct, kw_only=True):
    """The result of one request.

    :param index: the position of the request, from 0; None if the requests are unknown
    :param status: `succeeded`, `failed`, `expired`, `cancelled`, `invalid`, `missing`, `unfinished` or `rejected`
    :param refusal: the model's words if it refused to answer, only then
    :param logprobs: of the content, only if the request asked for them
    :param choices: all choices in order, only if the request asked for more than one
    :param output: the validated object, only if the task has an output type
    :param cost: of this answer, only if the job has prices
    :param reused: True if the request was not sent, because an earlier run or an equal request has its answer; only if
        the task has `reuse_from` or `deduplicate`
    """

    index: int | None = None
    custom_id: str
    status: str
    content: Any = None
    reasoning_content: Any = None
    refusal: Any = msgspec.UNSET
    tool_calls: Any = None
    logprobs: Any = msgspec.UNSET
    choices: Any = msgspec.UNSET
    output: Any = msgspec.UNSET
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost: float | msgspec.UnsetType | None = msgspec.UNSET
    model: str | None = None
    error: AnswerError | None = None
    batch_id: str | None = None
    round: int | None = None
    reused: bool | msgspec.UnsetType = msgspec.UNSET
    input: Any = None

    def mark_reused(self) -> None:
        """Mark the row as a copy of another one's: its request is not sent, so it costs nothing here."""
        self.reused = True
        self.cost = msgspec.UNSET


# The answer may be billed.
UNREADABLE = "unreadable_answer"
# The answer is billed, and would be too long again.
TOO_LONG = "answer_too_long"
# The answer was cut at `max_tokens`, and would be again.
TRUNCATED = "truncated"
LARGEST_COUNT = 2**53
LONGEST_COUNT = 17
_STATUS_OF_CODE = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


def parse_answer(line: bytes, batch_id: str) -> ResultRow:
    """Return the row of one line of a batch's output or error file.

    :raises msgspec.DecodeError: if the line has no custom_id
    """
    if isinstance(line, LongLine):
        too_long = AnswerError(TOO_LONG, f"the answer's line has {jsonl.TOO_LONG}")
        return _failure(custom_id_of(line), batch_id, too_long)
    try:
        return _row(read_line(line), batch_id)
    except (msgspec.DecodeError, RecursionError) as error:
        return _unreadable(line, batch_id, str(error))


def cached_of_prompt(cached_tokens: int | None, prompt_tokens: int | None) -> int | None:
    """Return the cached tokens, but at most those of the prompt: the costs of rows must add up to that of their job."""
    return None if cached_tokens is None else min(cached_tokens, prompt_tokens or 0)


def _unreadable(line: bytes, batch_id: str, reason: str) -> ResultRow:
    try:
        custom_id = custom_id_of(line)
    except msgspec.DecodeError:
        beginning = custom_id_at_beginning(line)
        if beginning is None:
            raise
        custom_id, reason = beginning, "the answer's line is damaged: it is not JSON as a whole"
    return _failure(custom_id, batch_id, AnswerError(UNREADABLE, reason))


def _row(answer: AnswerLine, batch_id: str) -> ResultRow:
    body = _body_of(answer)
    refusal = _refusal(answer, body)
    if refusal is not None:
        row = _failure(answer.custom_id, batch_id, refusal)
        # A failed request may be billed.
        _set_usage(row, body.usage if body is not None else None)
        return row
    return _success(answer.custom_id, batch_id, body or Body())


def _body_of(answer: AnswerLine) -> Body | None:
    body = answer.response.body if answer.response is not None else None
    if not isinstance(body, str):
        return body
    try:
        return read_body(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if answer.response is not None and _status_of(answer.response.status_code) is not None:
            return Body(message=body)
        # Whole: secrets are removed before a text is cut.
        raise msgspec.DecodeError(f"the answer's body is not JSON: {body}") from None


def _refusal(answer: AnswerLine, body: Body | None) -> AnswerError | None:
    """Return the error if the line is no answer: its error, its status code, or that it has no choices."""
    status = answer.response.status_code if answer.response is not None else None
    has_choices = body is not None and bool(body.choices)
    if _says_something(answer.error) and not (has_choices and _reports_success(answer.error)):
        return _error_of(answer.error, status)
    # If there are choices, a code and a message may report success.
    refused = body is not None and not body.choices and body.message
    details = body and (
        (_says_something(body.error) and not (has_choices and _reports_success(body.error)) and body.error)
        or (refused and {"code": body.code, "message": body.message})
    )
    if details:
        error = _error_of(details, status)
        # The status tells whether the request caused the error.
        return error if error.code is not None or status is None else msgspec.structs.replace(error, code=str(status))
    if status not in (None, 200, "200"):
        return AnswerError(str(status), f"the request was answered with status {status}", _status_of(status))
    if body is None or not body.choices:
        return AnswerError("no_choices", "the answer has no choices")
    return None


def _says_something(error: Any) -> bool:
    """Return False for an error object without content, as some servers write beside an answer."""
    return any(error.values()) if isinstance(error, dict) else bool(error)


def _reports_success(error: Any) -> bool:
    """Return True for an error beside an answer that says that there is none."""
    code = error.get("code") if isinstance(error, dict) else error
    return code is not None and str(code).lower() in ("0", "200", "20000", "null", "none", "ok", "success")


def _error_of(details: Any, status: Any) -> AnswerError:
    if not isinstance(details, dict):
        return AnswerError(None, str(details), _status_of(status))
    code = details.get("code") or details.get("type")
    message = str(details.get("message") or code or "no reason given")
    return AnswerError(None if code is None else str(code), message, _status_of(status))


def _status_of(status: Any) -> int | None:
    """Return an HTTP status that reports an error, else None."""
    try:
        number = int(status)
    except (TypeError, ValueError):
        return None
    return number if 300 <= number < 600 else None


def _failure(custom_id: str, batch_id: str, error: AnswerError) -> ResultRow:
    status = _STATUS_OF_CODE.get(error.code or "", "failed")
    return ResultRow(custom_id=custom_id, status=status, error=error, batch_id=batch_id)


def _success(custom_id: str, batch_id: str, body: Body) -> ResultRow:
    # A stable order: choices without an index stay where they are.
    choices = sorted(body.choices or [Choice()], key=lambda choice: _position(choice.index))
    first = choices[0]
    row = ResultRow(
        custom_id=custom_id,
        status="succeeded",
        content=first.message.content,
        reasoning_content=first.message.reasoning_content,
        tool_calls=first.message.tool_calls,
        finish_reason=_text(first.finish_reason),
        model=_text(body.model),
        batch_id=batch_id,
    )
    _set_usage(row, body.usage)
    if first.message.refusal:
        row.refusal = first.message.refusal
    if first.logprobs is not None:
        row.logprobs = first.logprobs
    if len(choices) > 1:
        row.choices = choices
    return row


def _set_usage(row: ResultRow, usage: Any) -> None:
    if isinstance(usage, dict):
        row.prompt_tokens = _count(usage.get("prompt_tokens"))
        row.completion_tokens = _count(usage.get("completion_tokens"))
        row.cached_tokens = cached_of_prompt(_cached_tokens(usage), row.prompt_tokens)


def _position(index: Any) -> int:
    return int(index) if isinstance(index, str) and index.isdecimal() else _count(index) or 0


def _cached_tokens(usage: dict[str, Any]) -> int | None:
    """Return the cached prompt tokens, in the form of OpenAI or of DeepSeek."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return _count(usage.get("prompt_cache_hit_tokens") if cached is None else cached)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < LONGEST_COUNT:
        value = int(value)
    # Booleans are integers too, and larger numbers do not fit into an XCom.
    is_count = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LARGEST_COUNT
    return int(value) if is_count else None
