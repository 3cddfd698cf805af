from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.emulator.request_lines import request_fault

ENDPOINT = "/v1/chat/completions"
USER = {"role": "user", "content": "x"}


def request(messages: Any = (USER,), **body: Any) -> dict[str, Any]:
    return {"custom_id": "a", "body": {"messages": list(messages)} | body}


@pytest.mark.parametrize(
    "good",
    [
        request(),
        request() | {"url": ENDPOINT, "method": "POST"},
        request([{"role": "system", "content": "x"}, USER, {"role": "assistant", "content": None}, USER]),
        request([{"role": "user", "content": [{"type": "text", "text": "x"}]}]),
        request(thinking_budget=128, max_tokens=1, n=1),
        request(thinking_budget=32768, max_tokens=None),
    ],
)
def test_valid_request_has_no_fault(good: dict[str, Any]) -> None:
    assert request_fault(good, ENDPOINT) is None


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (request() | {"url": "/v1/embeddings"}, "url"),
        ({"custom_id": "a"}, "body"),
        (request() | {"body": []}, "body"),
        ({"custom_id": "a", "body": {}}, "messages"),
        (request([]), "messages"),
        (request(["x"]), "messages"),
        (request([{"role": "robot", "content": "x"}]), "messages"),
        (request([{"role": ["user"], "content": "x"}]), "messages"),
        (request([USER, {"role": "assistant", "content": "x"}]), "messages"),
        (request([{"role": "user"}]), "messages"),
        (request(thinking_budget=127), "thinking_budget"),
        (request(thinking_budget=32769), "thinking_budget"),
        (request(thinking_budget="512"), "thinking_budget"),
        (request(max_tokens=0), "max_tokens"),
        (request(max_tokens=True), "max_tokens"),
        (request(max_tokens=1.5), "max_tokens"),
        (request(n=0), "n"),
        (request(n=10**9), "n"),
    ],
)
def test_fault_names_its_field(bad: dict[str, Any], field: str) -> None:
    fault = request_fault(bad, ENDPOINT)
    assert fault is not None
    assert fault.startswith(f"{field}:")
