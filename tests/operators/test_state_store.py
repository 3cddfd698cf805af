"""Progress in Airflow's task state store, which Airflow 3.3 and later have."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from siliconflow_provider.emulator.control import Control
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.state_store import PROGRESS_KEY
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, sums
from tests.lives import StateStore

OVER = {"batches": {"completed": 1}, "requests": 12, "done": 12, "failed": 0, "seconds_left": 0}


@pytest.fixture
def written(context: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return all values of the progress so far, without their times."""
    values: list[dict[str, Any]] = []
    context["task_state_store"] = store = StateStore()
    set_value = store.set

    def remember(key: str, value: Any, **options: Any) -> None:
        if key == PROGRESS_KEY:
            assert value["as_of"].startswith("2027-01-")
            values.append({name: entry for name, entry in value.items() if name != "as_of"})
        set_value(key, value, **options)

    monkeypatch.setattr(store, "set", remember)
    return values


def test_it_is_written_before_a_deferral(
    infer: Infer, run: Run, context: dict[str, Any], written: list[dict[str, Any]]
) -> None:
    job = infer(requests=sums(12), deferrable=True)
    with pytest.raises(TaskDeferred):
        job.execute(context)
    assert [value["batches"] for value in written] == [{"in_queue": 1}]
    run(lambda: infer(requests=sums(12), deferrable=True))
    assert written[-1] == OVER


def test_the_worker_writes_each_quarter(infer: Infer, run: Run, written: list[dict[str, Any]]) -> None:
    run(lambda: infer(requests=sums(12), poll_interval=1))
    running = [value for value in written if "in_progress" in value["batches"]]
    assert [value["done"] for value in running] == [0, 3, 6, 9]
    assert running[2]["seconds_left"] == pytest.approx(50, abs=3)
    assert written[-1] == OVER
    assert len(written) <= 10


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_single_batch_has_it_too(
    connection: str, run: Run, file_id: str, written: list[dict[str, Any]], deferrable: bool
) -> None:
    run(lambda: CreateBatchOperator(task_id="create", input_file_id=file_id, deferrable=deferrable))
    assert written[0]["batches"] == {"in_queue": 1}
    assert written[-1] == OVER


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_write_is_a_warning(
    infer: Infer, run: Run, rows: Rows, context: dict[str, Any], control: Control, logged: Any, deferrable: bool
) -> None:
    class BrokenStore(StateStore):
        def set(self, key: str, value: Any, **_: Any) -> None:
            raise ConnectionError("API server away")

    context["task_state_store"] = BrokenStore()
    run(lambda: infer(requests=sums(3), deferrable=deferrable))
    assert len(rows()) == 3
    assert_nothing_was_bought_twice(control, 3)
    assert "could not write the progress to the task state store, going on without it: API server away" in logged()


def test_a_failing_store_is_a_warning_on_one_line(
    infer: Infer, run: Run, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    context["task_state_store"] = store = StateStore()

    def fail(key: str, value: Any, **options: Any) -> None:
        raise ConnectionError("API server away\n[forged] https://h/x?Signature=s3cret")

    monkeypatch.setattr(store, "set", fail)
    run(lambda: infer(requests=sums(3), deferrable=True))
    said = {record.getMessage() for record in caplog.records if "task state store" in record.getMessage()}
    assert said == {
        "could not write the progress to the task state store, going on without it: "
        "API server away [forged] https://h/x?..."
    }
