"""Read a line of an output or error file leniently: whatever it holds, an answer in it must not be lost."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider import jsonl
from siliconflow_provider.api.lenient_json import decode
from siliconflow_provider.jsonl import LongLine


# Only the custom_id is strict: an unexpected value elsewhere must not cost an answer.
class Message(msgspec.Struct):
    """The message of a choice."""

    content: Any = None
    reasoning_content: Any = None
    refusal: Any = msgspec.UNSET
    tool_calls: Any = None


class Choice(msgspec.Struct):
    """One choice of an answer."""

    index: Any = None
    message: Message = msgspec.field(default_factory=Message)
    logprobs: Any = msgspec.UNSET
    finish_reason: Any = None


class Body(msgspec.Struct):
    """The body of a response: an answer or an error."""

    choices: list[Choice] | None = None
    usage: Any = None
    model: Any = None
    error: Any = None
    code: Any = None
    message: Any = None


class Response(msgspec.Struct):
    """The response to one request."""

    body: Body | str | None = None
    status_code: Any = None


class AnswerLine(msgspec.Struct):
    """A line of an output or error file."""

    custom_id: str
    response: Response | None = None
    error: Any = None


class _Identity(msgspec.Struct):
    custom_id: str


_line_decoder = msgspec.json.Decoder(AnswerLine)
_identity_decoder = msgspec.json.Decoder(_Identity)
_body_decoder = msgspec.json.Decoder(Body)


def read_line(line: bytes) -> AnswerLine:
    """Return the content of a line.

    :raises msgspec.DecodeError: if it is not JSON, or not of this form
    """
    return decode(_line_decoder, line)


def read_body(text: str) -> Body:
    """Return the content of a body that is a JSON text.

    :raises msgspec.DecodeError: if it is not JSON, or not of this form
    """
    return decode(_body_decoder, text.encode())


def custom_id_of(line: bytes) -> str:
    """Return the custom_id of a line.

    :raises msgspec.DecodeError: if it has none; for a `LongLine`, if its beginning has none
    """
    if not isinstance(line, LongLine):
        return decode(_identity_decoder, line).custom_id
    custom_id = custom_id_at_beginning(line)
    if custom_id is None:
        raise msgspec.DecodeError(f"it has {jsonl.TOO_LONG}, and no custom_id at its beginning")
    return custom_id


def custom_id_at_beginning(line: bytes) -> str | None:
    """Return the custom_id of a line that is cut or damaged somewhere after it; None if there is none."""
    # Cut the object after a value and close it there: the result is valid JSON.
    beginning = line[: jsonl.LONG_LINE_BYTES]
    end = beginning.find(b",")
    while end >= 0:
        try:
            return _identity_decoder.decode(beginning[:end] + b"}").custom_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            end = beginning.find(b",", end + 1)
    return None
