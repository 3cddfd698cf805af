from __future__ import annotations

import json
from typing import Any

import pytest

from siliconflow_provider.api.limits import ENDPOINTS
from siliconflow_provider.inputs.request_fast_path import decode_common_requests
from siliconflow_provider.inputs.request_lines import ROLES, THINKING_BUDGET, read_request, request_error

USER = {"role": "user", "content": "hi"}


def line(**changes: Any) -> bytes:
    body = {"model": "m", "messages": [USER], **changes.pop("body", {})}
    return json.dumps({"custom_id": "a", "body": body, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "good",
    [
        *[line(body={"messages": [{"role": role, "content": ""}, USER]}) for role in ROLES],
        *[line(body={"thinking_budget": budget}) for budget in (*THINKING_BUDGET, None)],
        *[line(url=url, method="POST") for url in ENDPOINTS],
        line(body={"messages": [{**USER, "content": []}], "temperature": 0.5, "tools": [{}]}),
        line(body={"model": None}),
    ],
)
def test_valid_common_requests_are_decoded(good: bytes) -> None:
    (found,) = decode_common_requests(good) or [None]
    assert found is not None
    read = read_request(good)
    assert (found.custom_id, found.body.model, request_error(read)) == (read.custom_id, read.body.model, None)


@pytest.mark.parametrize(
    "other",
    [
        line(custom_id=""),
        line(custom_id=" a"),
        line(custom_id="a" * 513),
        line(custom_id=1),
        line(method="GET"),
        line(url="/elsewhere"),
        line(own=1),
        line(body={"own": 1}),
        line(body={"messages": []}),
        line(body={"messages": [USER, {"role": "system", "content": ""}]}),
        line(body={"messages": [{"role": "tool", "content": ""}, USER]}),
        line(body={"messages": [{**USER, "content": None}]}),
        line(body={"messages": [{**USER, "own": 1}]}),
        *[line(body={"thinking_budget": budget}) for budget in (THINKING_BUDGET[0] - 1, THINKING_BUDGET[1] + 1)],
    ],
)
def test_other_requests_need_a_closer_look(other: bytes) -> None:
    assert decode_common_requests(line() + other) is None
