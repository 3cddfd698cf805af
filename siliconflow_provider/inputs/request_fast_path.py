"""Request lines of the common form, checked many at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from siliconflow_provider.inputs.request_lines import MAXIMUM_CUSTOM_ID, THINKING_BUDGET
from siliconflow_provider.jsonl import decode_lines


# Each field is decoded, since the decoder does not look into texts and numbers that it has no field for.
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


class PlainRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request that the service takes, with no field but those that are well known."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=MAXIMUM_CUSTOM_ID)]
    body: _Body
    method: Literal["POST"] = "POST"
    url: Literal["/v1/chat/completions"] = "/v1/chat/completions"


_decoder = msgspec.json.Decoder(PlainRequest)


def plain_requests(block: bytes) -> list[PlainRequest] | None:
    """Return the requests of lines that are sent as they are, or None: then each is to be looked at by itself."""
    requests = decode_lines(_decoder, block)
    if requests is None:
        return None
    last = [each.body.messages[-1] for each in requests]
    is_fit = (
        {each.role for each in last} == {"user"}
        and {type(each.content) for each in last} <= {str, list}
        and all(each.custom_id == each.custom_id.strip() for each in requests)
    )
    return requests if is_fit else None
