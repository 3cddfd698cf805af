from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.operators.inference import BatchInferenceOperator
from tests.kills import Killed


@pytest.fixture
def upload(client: SiliconFlowClient) -> Callable[[bytes], str]:
    """Brings a request file to the emulator; gives its id."""
    return lambda content: client.upload_file(io.BytesIO(content)).id


@pytest.fixture
def file_id(upload: Callable[[bytes], str], sums: Callable[[int], bytes]) -> str:
    """An uploaded file of twelve requests."""
    return upload(sums(12))


@pytest.fixture
def infer(connection: str, tmp_path: Path) -> Callable[..., BatchInferenceOperator]:
    """Makes the operator of a whole job, which waits on the worker; its directory is `tmp_path / "out"`."""

    def make(**arguments: Any) -> BatchInferenceOperator:
        usual = {"task_id": "create", "model": "deepseek-ai/DeepSeek-V3", "output_path": str(tmp_path / "out")}
        return BatchInferenceOperator(**{**usual, "deferrable": False, **arguments})

    return make


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Reads what that job has written."""
    return lambda: [json.loads(each) for each in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Reads its manifest."""
    return lambda: json.loads((tmp_path / "out" / "manifest.json").read_text())


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Gives what the operator and what the modules below it have logged."""
    caplog.set_level(logging.INFO, "siliconflow_provider")
    return lambda: "".join(capsys.readouterr()) + caplog.text


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the worker die when it calls a method for the n-th time: before it, or after it."""

    def plan(owner: Any, name: str, *, nth: int = 1, after: bool = False) -> None:
        original, calls = getattr(owner, name), 0

        def dying(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth and not after:
                raise Killed
            done = original(*arguments, **options)
            if calls == nth:
                raise Killed
            return done

        monkeypatch.setattr(owner, name, dying)

    return plan


@pytest.fixture
def retry(context: dict[str, Any]) -> Callable[[], None]:
    """Starts the next try as an automatic retry."""

    def begin() -> None:
        context["ti"].try_number += 1

    return begin


@pytest.fixture
def clear(context: dict[str, Any]) -> Callable[..., None]:
    """Starts the next try as a user does by clearing the task; `retries` is that of the DAG at that time."""
    return lambda retries=0: context["ti"].clear(retries)
