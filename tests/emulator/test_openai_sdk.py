"""The OpenAI SDK with the emulator, used as in the service's user guide."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
import requests

from siliconflow_provider.emulator.forms import Forms
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

Sums = Callable[[int], bytes]
OPENAI_FORMS = ("result-ids", "flat-upload", "error-objects", "openai-lines")


@pytest.fixture
def options(options: EmulatorOptions, request: pytest.FixtureRequest) -> EmulatorOptions:
    return replace(options, forms=Forms.named(getattr(request, "param", ())))


@pytest.fixture
def sdk(emulator: Emulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=emulator.api_key, base_url=emulator.base_url, max_retries=0) as client:
        yield client


def create(sdk: openai.OpenAI, file_id: str, **fields: Any) -> Any:
    return sdk.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", **fields)


def test_sdk_reads_the_services_forms(sdk: openai.OpenAI, clock: Any, sums: Sums) -> None:
    uploaded = sdk.files.create(file=("requests.jsonl", sums(3)), purpose="batch")
    file_id = uploaded.data["id"]  # type: ignore[attr-defined]  # as the user guide does
    # Not iterated: the list of files is unpaged, and without has_more the SDK would request pages without end.
    assert [file.id for file in sdk.files.list(purpose="batch").data] == [file_id]
    assert sdk.files.content(file_id).read() == sums(3)
    batch = create(
        sdk, file_id, metadata={"description": "nightly"}, extra_body={"replace": {"model": "deepseek-ai/DeepSeek-R1"}}
    )
    assert (batch.status, batch.metadata) == ("in_queue", {"description": "nightly"})
    clock.advance(200)
    batch = sdk.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed) == ("completed", 3)
    answer = requests.get(batch.output_file_id, timeout=10)
    bodies = [json.loads(line)["response"]["body"] for line in answer.content.splitlines()]
    assert {body["model"] for body in bodies} == {"deepseek-ai/DeepSeek-R1"}


@pytest.mark.parametrize("options", [OPENAI_FORMS], indirect=True)
def test_sdk_reads_openais_forms(sdk: openai.OpenAI, clock: Any, sums: Sums) -> None:
    uploaded = sdk.files.create(file=("requests.jsonl", sums(3)), purpose="batch")
    batch = create(sdk, uploaded.id, extra_body={"replace": {"model": "deepseek-ai/DeepSeek-R1"}})
    failing = create(sdk, sdk.files.create(file=("bad.jsonl", b"nonsense\n"), purpose="batch").id)
    clock.advance(200)
    batch = sdk.batches.retrieve(batch.id)
    lines = [json.loads(line) for line in sdk.files.content(batch.output_file_id).iter_lines()]
    assert {line["response"]["status_code"] for line in lines} == {200}
    assert {line["response"]["body"]["model"] for line in lines} == {"deepseek-ai/DeepSeek-R1"}
    (error,) = sdk.batches.retrieve(failing.id).errors.data
    assert (error.line, error.message) == (1, "not JSON")


def test_batches_are_paged_through_and_cancelled(sdk: openai.OpenAI, clock: Any, api: Any, sums: Sums) -> None:
    ids = [api.create(sums(1)) for _ in range(5)][::-1]
    assert [batch.id for batch in sdk.batches.list(limit=2)] == ids
    clock.advance(60)
    assert sdk.batches.cancel(ids[0]).status == "cancelling"
    clock.advance(20)
    assert sdk.batches.retrieve(ids[0]).status == "cancelled"


def test_errors_are_the_sdks_errors(sdk: openai.OpenAI, emulator: Emulator) -> None:
    with pytest.raises(openai.NotFoundError, match="batch_no"):
        sdk.batches.retrieve("batch_no")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key="sk-wrong", base_url=emulator.base_url, max_retries=0).files.list()
