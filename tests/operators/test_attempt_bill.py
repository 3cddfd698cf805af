"""Whole jobs: the part of the bill that one attempt has caused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from siliconflow_provider.batches.records import CREATES
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import MissedSuccessRateError
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.operators.identity import attempt_fields
from tests.conftest import TaskInstance
from tests.inference_jobs import Infer, Run, sums
from tests.kills import Killed

PRICES = {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1_000_000, "output": 0}}}
TOTAL = "12 prompt and 3 completion tokens"


@pytest.fixture
def job(infer: Infer, run: Run) -> Any:
    return lambda **arguments: run(lambda: infer(requests=sums(3), deferrable=True, **arguments))


def test_the_attempt_that_created_all_shows_the_total(job: Any, logged: Any) -> None:
    job(max_active_batches=1)
    assert f".\nBilled in total: {TOTAL}.\n" in logged()


@pytest.mark.parametrize("begin", ["clear", "retry"])
def test_an_attempt_that_creates_nothing_bills_nothing(
    job: Any, logged: Any, begin: str, request: pytest.FixtureRequest
) -> None:
    job(prices=PRICES)
    request.getfixturevalue(begin)()
    logged()
    job(prices=PRICES)
    assert f".\nBilled by this attempt: nothing; in total: {TOTAL}, CNY 12.00.\n" in logged()


def test_a_cleared_task_bills_what_it_resends(job: Any, control: Control, logged: Any, clear: Any) -> None:
    control.plan(failing={"positions": [1]})
    with pytest.raises(MissedSuccessRateError, match=r"\nBilled in total: 8 prompt and 2 completion tokens, CNY 8"):
        job(max_rounds=1, prices=PRICES)
    clear()
    job(max_rounds=1, prices=PRICES)
    own = "4 prompt and 1 completion tokens, CNY 4.00"
    assert f".\nBilled by this attempt: {own}; in total: {TOTAL}, CNY 12.00.\n" in logged()


def test_a_retry_did_not_create_its_predecessors_batches(job: Any, logged: Any, kill: Any, retry: Any) -> None:
    kill(JobRunner, "submit", after=True)
    with pytest.raises(Killed):
        job()
    retry()
    job()
    assert f"Billed by this attempt: nothing; in total: {TOTAL}" in logged()


def test_without_records_of_attempts_only_the_total_is_known(job: Any, logged: Any, clear: Any, tmp_path: Path) -> None:
    job()
    for path in (tmp_path / "out" / CREATES).glob("*.json"):
        record = json.loads(path.read_text())
        del record["attempt"]
        path.write_text(json.dumps(record))
    clear()
    logged()
    job()
    said = logged()
    assert f".\nBilled in total: {TOTAL}.\nThe part of this attempt is unknown: " in said
    assert "Billed by this attempt" not in said


def test_a_run_that_was_created_again_bills_only_its_own(job: Any, logged: Any, context: Any) -> None:
    """Its id, its directory and its try numbers are those of the deleted run."""
    job()
    logged()
    context["ti"] = TaskInstance()
    job()
    assert f"Billed by this attempt: nothing; in total: {TOTAL}" in logged()


@pytest.mark.parametrize(
    ("ti_id", "started_at", "attempt"),
    [
        (UUID(int=7), None, str(UUID(int=7))),
        (None, datetime(2026, 11, 23, tzinfo=UTC), "2026-11-23T00:00:00+00:00/2"),
        (None, None, None),
    ],
)
def test_an_attempt_is_identified(ti_id: Any, started_at: Any, attempt: str | None) -> None:
    """Airflow 2.11 has no id of a try."""
    ti = SimpleNamespace(try_number=2, max_tries=2, **({} if ti_id is None else {"id": ti_id}))
    run = SimpleNamespace(start_date=started_at)
    assert attempt_fields({"ti": ti, "dag_run": run}, 0)["attempt"] == attempt
