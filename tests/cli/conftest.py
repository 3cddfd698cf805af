from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.cli import main
from siliconflow_provider.emulator.server import Emulator


class Printed(NamedTuple):
    """A finished command: its exit code, and its two outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Printed]:
    """Run a command in this process."""

    def run_command(*arguments: object) -> Printed:
        capsys.readouterr()
        code = main(list(map(str, arguments)))
        return Printed(code, *capsys.readouterr())

    return run_command


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SILICONFLOW_API_KEY", "SILICONFLOW_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(emulator: Emulator, held_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has the emulator's key and base URL."""
    monkeypatch.setenv("SILICONFLOW_API_KEY", emulator.api_key)
    monkeypatch.setenv("SILICONFLOW_BASE_URL", emulator.base_url)


@pytest.fixture
def listing_settings(service: Any, held_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment leads to `service`."""
    monkeypatch.setenv("SILICONFLOW_API_KEY", "sk-abcdefgh")
    monkeypatch.setenv("SILICONFLOW_BASE_URL", service.base_url)


@pytest.fixture
def create(client: SiliconFlowClient, sums: Callable[[int], bytes], settings: None) -> Callable[..., Batch]:
    """Create a batch of three requests, as a task of the DAG `nightly`."""

    def make(task: str = "nightly/create/manual__1/-1", **metadata: str) -> Batch:
        file = client.upload_file(BytesIO(sums(3)), filename="sums.jsonl")
        return client.create_batch(file.id, metadata={"airflow_task": task, **metadata})

    return make


class Terminal:
    """A standard input where a person types."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        if not self._lines:
            raise KeyboardInterrupt
        return self._lines.pop(0)


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a person type lines, and Ctrl-C after them."""
    return lambda *lines: monkeypatch.setattr("sys.stdin", Terminal(*lines))


@pytest.fixture
def requests(tmp_path: Path, sums: Callable[[int], bytes]) -> Path:
    """A file of three requests."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(sums(3))
    return path
