from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.models import UNKNOWN
from siliconflow_provider.emulator.server import EmulatorOptions

KNOWN = "deepseek-ai/DeepSeek-V3"


@pytest.fixture
def options(options: EmulatorOptions, forms: Forms) -> EmulatorOptions:
    return replace(options, models=[KNOWN, "Qwen/QwQ-32B"], forms=forms)


@pytest.fixture
def forms() -> Forms:
    return Forms()


def create(api: Any, content: bytes, **fields: Any) -> Any:
    body = {"input_file_id": api.upload(content), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return api.call("POST", "/batches", json=body | fields)


def test_create_for_an_unknown_model_is_refused(api: Any, emulator: Any, jsonl: Any, line: Any, sums: Any) -> None:
    emulator.control.plan(end="failed")
    for answer in (
        create(api, sums(1), replace={"model": "Qwen/none"}),
        create(api, jsonl([line("a", "x", model="Qwen/none")])),
    ):
        assert (answer.status_code, answer.json()) == (400, UNKNOWN)
    # A refused create uses no plan.
    assert emulator.control.plans()[0]["used"] == emulator.control.batches_created() == 0


def test_create_for_a_known_model_is_taken(api: Any, jsonl: Any, line: Any, sums: Any) -> None:
    for content, fields in (
        (sums(1), {}),
        (jsonl([line("a", "x", model="other")]), {"replace": {"model": KNOWN}}),
        (b"no JSON", {}),
        (b"\n", {}),
    ):
        assert create(api, content, **fields).status_code == 200


class TestLines:
    @pytest.fixture
    def forms(self) -> Forms:
        return Forms.named(["unknown-model-lines"])

    def test_each_request_fails_instead_of_the_create(self, api: Any, clock: Any, sums: Any) -> None:
        batch_id = create(api, sums(2), replace={"model": "Qwen/none"}).json()["id"]
        clock.advance(200)
        batch = api.batch(batch_id)
        assert (batch["status"], batch["output_file_id"]) == ("completed", None)
        assert batch["request_counts"] == {"total": 2, "completed": 0, "failed": 2}
        assert [row["error"] for row in api.rows(batch["error_file_id"])] == [UNKNOWN, UNKNOWN]
