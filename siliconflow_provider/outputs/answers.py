"""Turn one line of an output or error file into a result row."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider import jsonl
from siliconflow_provider.api.lenient_json import decode
from siliconflow_provider.jsonl import LongLine


class AnswerError(msgspec.Struct):
    """The reason why a request has no good answer."""

    code: str | None
    message: str


class ResultRow(msgspec.Struct, kw_only=True):
    """The result of one request.

    :param index: the position of the request, from 0; None if the requests are unknown
    :param status: `succeeded`, `failed`, `expired`, `cancelled`, `invalid`, `missing` or `unfinished`
    :param choices: all choices, only if the request asked for more than one
    :param output: the validated object, only if the task has an output type
    """

    index: int | None = None
    custom_id: str
    status: str
    content: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    choices: Any = msgspec.UNSET
    output: Any = msgspec.UNSET
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str | None = None
    error: AnswerError | None = None
    batch_id: str | None = None
    round: int | None = None
    input: Any = None


# Only the custom_id is strict: an unexpected value elsewhere must not cost an answer.
class _Message(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    finish_reason: Any = None


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    model: Any = None
    error: Any = None
    code: Any = None
    message: Any = None


class _Response(msgspec.Struct):
    body: _Body | str | None = None
    status_code: Any = None


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: Any = None


class _Identity(msgspec.Struct):
    custom_id: str


_line_decoder = msgspec.json.Decoder(_Line)
_identity_decoder = msgspec.json.Decoder(_Identity)
_body_decoder = msgspec.json.Decoder(_Body)
UNREADABLE = "unreadable_answer"
# The answer is billed, and would be too long again: resend it only if a person clears the task.
TOO_LONG = "answer_too_long"
SHOWN_CHARACTERS = 200
LARGEST_COUNT = 2**53
_STATUS_OF_CODE = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


def parse_answer(line: bytes, batch_id: str) -> ResultRow:
    """Return the row of one line of a batch's output or error file.

    :raises msgspec.DecodeError: if the line has no custom_id
    """
    if isinstance(line, LongLine):
        too_long = AnswerError(TOO_LONG, f"the answer's line has {jsonl.TOO_LONG}")
        return _failure(custom_id_of(line), batch_id, too_long)
    try:
        return _row(decode(_line_decoder, line), batch_id)
    except (msgspec.DecodeError, RecursionError) as error:
        return _failure(custom_id_of(line), batch_id, AnswerError(UNREADABLE, str(error)))


def custom_id_of(line: bytes) -> str:
    """Return the custom_id of a line.

    :raises msgspec.DecodeError: if it has none; for a `LongLine`, if its beginning has none
    """
    if not isinstance(line, LongLine):
        return decode(_identity_decoder, line).custom_id
    # Cut the object after a value and close it there: the result is valid JSON.
    end = line.find(b",")
    while end >= 0:
        try:
            return _identity_decoder.decode(line[:end] + b"}").custom_id
        except (msgspec.DecodeError, UnicodeDecodeError):
            end = line.find(b",", end + 1)
    raise msgspec.DecodeError(f"it has {jsonl.TOO_LONG}, and no custom_id at its beginning")


def _row(answer: _Line, batch_id: str) -> ResultRow:
    body = _body_of(answer)
    refusal = _refusal(answer, body)
    if refusal is not None:
        return _failure(answer.custom_id, batch_id, refusal)
    return _success(answer.custom_id, batch_id, body or _Body())


def _body_of(answer: _Line) -> _Body | None:
    body = answer.response.body if answer.response is not None else None
    if not isinstance(body, str):
        return body
    try:
        return decode(_body_decoder, body.encode())
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        raise msgspec.DecodeError(f"the answer's body is not JSON: {body[:SHOWN_CHARACTERS]}") from None


def _refusal(answer: _Line, body: _Body | None) -> AnswerError | None:
    """Return the error if the line is no answer: its error, its status code, or that it has no choices."""
    if answer.error:
        return _error_of(answer.error)
    status = answer.response.status_code if answer.response is not None else None
    # If there are choices, a code and a message may report success.
    refused = body is not None and not body.choices and body.message
    details = body and (body.error or (refused and {"code": body.code, "message": body.message}))
    if details:
        error = _error_of(details)
        # The status tells whether the request caused the error.
        return error if error.code is not None or status is None else AnswerError(str(status), error.message)
    if status not in (None, 200, "200"):
        return AnswerError(str(status), f"the request was answered with status {status}")
    if body is None or not body.choices:
        return AnswerError("no_choices", "the answer has no choices")
    return None


def _error_of(details: Any) -> AnswerError:
    if not isinstance(details, dict):
        return AnswerError(None, str(details))
    code = details.get("code") or details.get("type")
    return AnswerError(None if code is None else str(code), str(details.get("message") or code or "no reason given"))


def _failure(custom_id: str, batch_id: str, error: AnswerError) -> ResultRow:
    status = _STATUS_OF_CODE.get(error.code or "", "failed")
    return ResultRow(custom_id=custom_id, status=status, error=error, batch_id=batch_id)


def _success(custom_id: str, batch_id: str, body: _Body) -> ResultRow:
    choices = body.choices or [_Choice()]
    usage = body.usage if isinstance(body.usage, dict) else {}
    first = choices[0]
    row = ResultRow(
        custom_id=custom_id,
        status="succeeded",
        content=first.message.content,
        reasoning_content=first.message.reasoning_content,
        tool_calls=first.message.tool_calls,
        finish_reason=_text(first.finish_reason),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        model=_text(body.model),
        batch_id=batch_id,
    )
    if len(choices) > 1:
        row.choices = choices
    return row


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _count(value: Any) -> int | None:
    # Booleans are integers too, and larger numbers do not fit into an XCom.
    is_count = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LARGEST_COUNT
    return int(value) if is_count else None
