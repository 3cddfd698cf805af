from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

ENDPOINT = "/v1/chat/completions"


class Api:
    """Short forms of the calls that most tests make; each one must succeed."""

    def __init__(self, emulator: Emulator) -> None:
        self.base_url = emulator.base_url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {emulator.api_key}"

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return self.session.request(method, self.base_url + path, timeout=10, **arguments)

    def upload(self, content: bytes, filename: str = "requests.jsonl") -> str:
        answer = self.call("POST", "/files", data={"purpose": "batch"}, files={"file": (filename, content)})
        answer.raise_for_status()
        file_id: str = answer.json()["data"]["id"]
        return file_id

    def create(self, content: bytes, **fields: Any) -> str:
        body = {"input_file_id": self.upload(content), "endpoint": ENDPOINT, "completion_window": "24h"}
        answer = self.call("POST", "/batches", json=body | fields)
        answer.raise_for_status()
        batch_id: str = answer.json()["id"]
        return batch_id

    def batch(self, batch_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/batches/{batch_id}")
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def rows(self, reference: str) -> list[dict[str, Any]]:
        answer = requests.get(reference, timeout=10)
        answer.raise_for_status()
        return [json.loads(line) for line in answer.content.splitlines()]


@pytest.fixture(scope="session")
def idle_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One for all tests whose requests change nothing."""
    with Emulator(EmulatorOptions(tmp_path_factory.mktemp("idle"))) as running:
        yield running


@pytest.fixture(scope="session")
def idle_api(idle_emulator: Emulator) -> Api:
    return Api(idle_emulator)


@pytest.fixture
def api(emulator: Emulator) -> Api:
    return Api(emulator)


@pytest.fixture
def new_api() -> Callable[[Emulator], Api]:
    """For tests that start emulators themselves."""
    return Api
