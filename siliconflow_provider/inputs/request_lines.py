"""Read a request line, and check it by the rules of the service."""

from __future__ import annotations

from codecs import BOM_UTF8

import msgspec

from siliconflow_provider import jsonl
from siliconflow_provider.api.limits import ENDPOINTS, shortened

ROLES = ("system", "user", "assistant")
THINKING_BUDGET = (128, 32_768)
# The service documents none; the longest ids that people use are URLs and hashes.
MAXIMUM_CUSTOM_ID = 512
TOO_LONG = f"it has {jsonl.TOO_LONG}; shorten it, or give images and videos by their URLs"


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Body(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    thinking_budget: int | None = None


class RequestLine(msgspec.Struct):
    """The fields of a request line that are checked."""

    custom_id: str
    body: _Body
    method: str = "POST"
    url: str = ENDPOINTS[0]


_decoder = msgspec.json.Decoder(RequestLine)
_any_decoder = msgspec.json.Decoder()


def read_request(line: bytes) -> RequestLine:
    """Return the request of a line.

    :raises ValueError: if the line is not a request
    """
    if line.startswith(BOM_UTF8):
        raise ValueError("it begins with a byte order mark; save the file as UTF-8 without one")
    try:
        # The decoder of requests does not check texts and numbers of fields that it does not know.
        line.decode()
        request = _decoder.decode(line)
        _any_decoder.decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply to read") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from None
    return request


def custom_id_error(custom_id: str) -> str | None:
    """Return what is wrong with a custom_id, or None if it is valid.

    Answers are matched to requests by their custom_id, so the service has to return it unchanged.
    """
    if not custom_id:
        return "custom_id is empty"
    if custom_id != custom_id.strip():
        return f"custom_id {shortened(repr(custom_id))} begins or ends with whitespace; remove it"
    if len(custom_id) > MAXIMUM_CUSTOM_ID:
        return (
            f"custom_id {shortened(repr(custom_id))} has {len(custom_id):,} characters; use at most "
            f"{MAXIMUM_CUSTOM_ID}, such as a hash of it"
        )
    return None


def request_error(request: RequestLine) -> str | None:
    """Return why the service would refuse a request, or None if it is valid."""
    messages, budget = request.body.messages, request.body.thinking_budget
    if request.method != "POST":
        return f"method is {shortened(repr(request.method))}, but must be 'POST'"
    if request.url not in ENDPOINTS:
        return f"url is {shortened(repr(request.url))}, but must be {ENDPOINTS[0]!r}"
    if not messages:
        return "body.messages is empty"
    unknown = next((message.role for message in messages if message.role not in ROLES), None)
    if unknown is not None:
        return f"body.messages has the role {shortened(repr(unknown))}; use {', '.join(ROLES)}"
    if messages[-1].role != "user":
        return f"the last message has the role {messages[-1].role!r}, but must have 'user'"
    if chr(memoryview(messages[-1].content)[0]) not in '"[':
        return "the content of the last message is neither a text nor a list of parts"
    if budget is not None and not THINKING_BUDGET[0] <= budget <= THINKING_BUDGET[1]:
        return f"body.thinking_budget is {shortened(f'{budget:,}')}, but must be 128 to 32,768"
    return None
