"""Whole jobs: XCom `batch_ids`."""

from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import MissedSuccessRateError
from siliconflow_provider.jobs.runner import JobRunner
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, batches, sums
from tests.kills import Killed


@pytest.fixture(autouse=True)
def one_request_a_part(part_lines: Any) -> None:
    part_lines(1)


@pytest.fixture
def pushed(context: dict[str, Any], client: SiliconFlowClient, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the values of the XCom so far."""
    values: list[list[str]] = []
    push = context["ti"].xcom_push

    def remember(key: str, value: Any) -> None:
        if key == "batch_ids":
            assert {batch.id for batch in batches(client)} >= set(value)
            values.append(value)
        push(key, value)

    monkeypatch.setattr(context["ti"], "xcom_push", remember)
    return values


def ids(client: SiliconFlowClient) -> list[str]:
    return sorted(batch.id for batch in batches(client))


def test_the_list_grows_with_each_batch(
    infer: Infer, run: Run, client: SiliconFlowClient, pushed: list[list[str]]
) -> None:
    run(lambda: infer(requests=sums(6), max_active_batches=1))
    assert [len(value) for value in pushed] == [1, 2, 3, 4, 5, 6]
    assert all(value == pushed[-1][: len(value)] for value in pushed)
    assert sorted(pushed[-1]) == ids(client)


def test_it_is_there_before_the_wait(
    infer: Infer, run: Run, client: SiliconFlowClient, context: dict[str, Any], kill: Any
) -> None:
    kill(JobRunner, "submit", after=True)
    with pytest.raises(Killed):
        run(lambda: infer(requests=sums(3)))
    assert sorted(context["ti"].xcoms["batch_ids"]) == ids(client)


def test_it_has_the_batches_of_all_rounds_after_a_failure(
    infer: Infer, run: Run, client: SiliconFlowClient, control: Control, context: dict[str, Any]
) -> None:
    control.plan(failing={"share": 1.0}, every=1)
    with pytest.raises(MissedSuccessRateError):
        run(lambda: infer(requests=sums(2), max_rounds=2, deferrable=True))
    assert len(context["ti"].xcoms["batch_ids"]) == 4
    assert sorted(context["ti"].xcoms["batch_ids"]) == ids(client)


def test_a_cleared_task_pushes_found_batches(
    infer: Infer, run: Run, client: SiliconFlowClient, context: dict[str, Any], clear: Any
) -> None:
    for _ in range(2):
        run(lambda: infer(requests=sums(3)))
        assert sorted(context["ti"].xcoms["batch_ids"]) == ids(client)
        context["ti"].xcoms.clear()
        clear()


def test_a_failed_push_buys_nothing_twice(
    infer: Infer, run: Run, rows: Rows, control: Control, context: dict[str, Any], logged: Any, retry: Any
) -> None:
    def fail(**_: Any) -> None:
        raise ConnectionError("API server away")

    context["ti"].xcom_push = fail
    for _ in range(2):
        run(lambda: infer(requests=sums(3), deferrable=True))
        retry()
    assert len(rows()) == 3
    assert_nothing_was_bought_twice(control, 3)
    assert "could not push XCom batch_ids" in logged()
