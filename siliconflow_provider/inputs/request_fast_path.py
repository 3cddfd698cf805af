"""Check a block of request lines at once if all of them have only well-known fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from siliconflow_provider.inputs.request_lines import MAXIMUM_CUSTOM_ID, THINKING_BUDGET
from siliconflow_provider.jsonl import decode_lines


# The decoder does not check texts and numbers of fields that it does not know. So it has to know all of them.
class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: Any = None
    name: Any = None
    tool_calls: Any = None


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: Annotated[list[_Message], Meta(min_length=1)]
    model: str | None = None
    thinking_budget: Annotated[int, Meta(ge=THINKING_BUDGET[0], le=THINKING_BUDGET[1])] | None = None
    enable_thinking: Any = None
    frequency_penalty: Any = None
    max_completion_tokens: Any = None
    max_tokens: Any = None
    min_p: Any = None
    n: Any = None
    presence_penalty: Any = None
    reasoning_effort: Any = None
    response_format: Any = None
    seed: Any = None
    stop: Any = None
    stream: Any = None
    temperature: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_k: Any = None
    top_p: Any = None
    user: Any = None


class CommonRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request with only well-known fields, which the service accepts."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=MAXIMUM_CUSTOM_ID)]
    body: _Body
    method: Literal["POST"] = "POST"
    url: Literal["/v1/chat/completions"] = "/v1/chat/completions"


_decoder = msgspec.json.Decoder(CommonRequest)


def decode_common_requests(block: bytes) -> list[CommonRequest] | None:
    """Return the requests of a block of lines, or None if each line has to be checked by itself."""
    requests = decode_lines(_decoder, block)
    if requests is None:
        return None
    last = [request.body.messages[-1] for request in requests]
    are_valid = (
        {message.role for message in last} == {"user"}
        and {type(message.content) for message in last} <= {str, list}
        and all(request.custom_id == request.custom_id.strip() for request in requests)
    )
    return requests if are_valid else None
