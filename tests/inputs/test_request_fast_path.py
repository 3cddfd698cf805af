from __future__ import annotations

import json
from typing import Any

import pytest

from siliconflow_provider.api.limits import ENDPOINTS
from siliconflow_provider.inputs.request_fast_path import plain_requests
from siliconflow_provider.inputs.request_lines import ROLES, THINKING_BUDGET, check_request, read_request

USER = {"role": "user", "content": "hi"}


def line(**changes: Any) -> bytes:
    body = {"model": "m", "messages": [USER], **changes.pop("body", {})}
    return json.dumps({"custom_id": "a", "body": body, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "good",
    [
        *[line(body={"messages": [{"role": each, "content": ""}, USER]}) for each in ROLES],
        *[line(body={"thinking_budget": each}) for each in (*THINKING_BUDGET, None)],
        *[line(url=each, method="POST") for each in ENDPOINTS],
        line(body={"messages": [{**USER, "content": []}], "temperature": 0.5, "tools": [{}]}),
        line(body={"model": None}),
    ],
)
def test_what_the_service_takes_is_plain(good: bytes) -> None:
    (found,) = plain_requests(good) or [None]
    assert found is not None
    read = read_request(good)
    assert (found.custom_id, found.body.model, check_request(read)) == (read.custom_id, read.body.model, None)


@pytest.mark.parametrize(
    "other",
    [
        line(custom_id=""),
        line(custom_id=" a"),
        line(custom_id="a" * 65),
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
        *[line(body={"thinking_budget": each}) for each in (THINKING_BUDGET[0] - 1, THINKING_BUDGET[1] + 1)],
    ],
)
def test_what_it_refuses_or_is_not_well_known_is_not(other: bytes) -> None:
    assert plain_requests(line() + other) is None
