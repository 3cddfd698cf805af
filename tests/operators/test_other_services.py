"""Whole jobs whose connection leads to another service than that of an earlier job: its answers are never reused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.exceptions import InvalidInputError, JobDefinitionError
from tests.conftest import HeldClock
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, contents, sums

Move = Callable[[], Emulator]


@pytest.fixture
def move(
    options: EmulatorOptions, clock: HeldClock, connection: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Move]:
    """Let the connection lead to another service, whose answers are `other`; return it."""
    with Emulator(replace(options, data_dir=tmp_path / "other"), clock=clock) as other:

        def to_other() -> Emulator:
            monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(other.airflow_connection))
            other.control.plan(every=1, answers=[{"content": "other"}])
            return other

        yield to_other


def test_a_cleared_task_sends_all_requests_anew(
    infer: Infer, run: Run, rows: Rows, clear: Any, move: Move, logged: Any, manifest: Any, tmp_path: Path
) -> None:
    """As after developing with the emulator. The answers so far stay beside the new ones."""
    run(lambda: infer(requests=sums(3)))
    old = manifest()["job_id"]
    other = move()
    clear()
    run(lambda: infer(requests=sums(2)))
    assert (contents(rows()), manifest()["kept"], other.control.batches_created()) == (["other"] * 2, 0, 1)
    assert "the connection leads to another service than that of the previous job, now http://127.0.0.1" in logged()
    assert (tmp_path / "out" / "_siliconflow" / "replaced" / old / "results.jsonl").exists()
    clear()
    run(lambda: infer(requests=sums(3), completion_window="48h"))
    assert (contents(rows()), manifest()["kept"], other.control.batches_created()) == (["other"] * 3, 2, 2)


def test_returning_to_a_service_buys_nothing_again(
    infer: Infer, run: Run, rows: Rows, clear: Any, move: Move, control: Control, monkeypatch: Any
) -> None:
    connection = os.environ["AIRFLOW_CONN_SILICONFLOW_DEFAULT"]
    run(lambda: infer(requests=sums(2)))
    move()
    clear()
    run(lambda: infer(requests=sums(3)))
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", connection)
    clear()
    run(lambda: infer(requests=sums(3)))
    assert contents(rows()) == ["1", "2", "3"]
    assert_nothing_was_bought_twice(control, 3)


def test_a_retry_sends_nothing_to_another_service(infer: Infer, run: Run, retry: Any, move: Move) -> None:
    run(lambda: infer(requests=sums(2)))
    other = move()
    retry()
    with pytest.raises(JobDefinitionError, match=r"^connection changed .*\n.*then a new job sends all requests that"):
        run(lambda: infer(requests=sums(2)))
    assert other.control.batches_created() == 0


def test_a_pattern_of_another_service_reuses_nothing(
    infer: Infer, run: Run, context: Any, move: Move, logged: Any, tmp_path: Path
) -> None:
    """For a path without a star it is an error, which names the path and the service."""
    first = tmp_path / "out"
    run(lambda: infer(requests=sums(2)))
    other = move()
    context["ti"].run_id = "2"

    def second(reuse_from: str) -> Any:
        return run(lambda: infer(requests=sums(2), output_path=str(tmp_path / "second"), reuse_from=reuse_from))

    reason = f"they come from another service than {other.base_url}"
    with pytest.raises(InvalidInputError, match=f"^reuse_from names file://{first}, but .*: {reason}"):
        second(str(first))
    assert other.control.batches_created() == 0
    assert (second(f"{first}*")["reused"], other.control.batches_created()) == (0, 1)
    assert f"reusing no answers of file://{first}: {reason}" in logged()
