from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    TaskDeferred,
)

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import InvalidRequestError, NotFoundError
from siliconflow_provider.emulator.server import EmulatorOptions
from siliconflow_provider.exceptions import BatchCancelledError, BatchExpiredError, BatchWaitError, KeyRefusedError
from siliconflow_provider.sensors.batches import BatchSensor

DAY = 24 * 3600


@pytest.fixture
def batch_id(connection: str, client: SiliconFlowClient, sums: Callable[[int], bytes]) -> str:
    """Return the id of a batch of twelve requests that was just submitted."""
    return client.create_batch(client.upload_file(io.BytesIO(sums(12))).id).id


@pytest.fixture(params=["deferred", "poke"])
def sensor(
    request: pytest.FixtureRequest, batch_id: str, held_time: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., BatchSensor]:
    """Return a sensor, deferrable or not. Airflow's own loop uses the held clock too."""
    airflows_time = SimpleNamespace(sleep=held_time.advance, monotonic=held_time)
    monkeypatch.setattr(sys.modules[BaseSensorOperator.__module__], "time", airflows_time)

    def make(**arguments: Any) -> BatchSensor:
        deferrable = request.param == "deferred"
        return BatchSensor(**{"task_id": "wait", "batch_id": batch_id, "deferrable": deferrable, **arguments})

    return make


def test_it_returns_the_id_of_a_completed_batch(sensor, run, batch_id, client) -> None:
    assert run(sensor) == batch_id
    assert client.get_batch(batch_id).status == "completed"


def test_an_ended_batch_needs_no_wait(sensor, batch_id, context, clock) -> None:
    clock.advance(300)
    started = clock.now
    assert sensor().execute(context) == batch_id
    assert clock.now == started


@pytest.mark.parametrize("is_over", [True, False])
def test_a_cancelled_batch_fails_the_sensor(sensor, run, batch_id, client, clock, is_over) -> None:
    clock.after(0 if is_over else 60, lambda: client.cancel_batch(batch_id))
    clock.advance(30 if is_over else 0)
    with pytest.raises(BatchCancelledError, match=f"batch {batch_id} cancelled after") as failure:
        run(sensor)
    assert isinstance(failure.value, AirflowFailException)


@pytest.mark.parametrize("is_over", [True, False])
def test_soft_fail_means_the_same_in_every_mode(sensor, run, batch_id, client, clock, is_over) -> None:
    clock.after(0 if is_over else 60, lambda: client.cancel_batch(batch_id))
    clock.advance(60 if is_over else 0)
    with pytest.raises(AirflowSkipException):
        run(lambda: sensor(soft_fail=True))


def test_its_timeout_raises_airflows_sensor_error(sensor, run, batch_id, client) -> None:
    with pytest.raises(AirflowSensorTimeout):
        run(lambda: sensor(timeout=60, poke_interval=20))
    assert client.get_batch(batch_id).status == "in_progress"


def test_the_timeout_is_fifteen_days_unless_set(sensor) -> None:
    assert sensor().timeout == 15 * DAY
    assert sensor(timeout=timedelta(days=20)).timeout == 20 * DAY


class TestBatchThatNeverEnds:
    @pytest.fixture
    def options(self, tmp_path: Any) -> EmulatorOptions:
        """The batch would run for ten days, but its window is one day."""
        return EmulatorOptions(data_dir=tmp_path / "data", run_seconds=10 * DAY)

    def test_an_expired_batch_fails_the_sensor(self, sensor, run, batch_id) -> None:
        with pytest.raises(BatchExpiredError, match=f"batch {batch_id} expired after 1d 0h 0m: 1 of 12"):
            run(lambda: sensor(poke_interval=600))

    def test_the_batchs_own_deadline_ends_the_wait(self, sensor, run, batch_id, clock, monkeypatch) -> None:
        """If the service never reports 'expired', the task still does not wait for fifteen days."""
        get_batch = SiliconFlowClient.get_batch
        first: list[Any] = []

        def stuck(self: SiliconFlowClient, batch_id: str) -> Any:
            first.append(get_batch(self, batch_id))
            return first[0]

        monkeypatch.setattr(SiliconFlowClient, "get_batch", stuck)
        started = clock.now
        with pytest.raises(
            AirflowSensorTimeout, match=f"batch {batch_id} was still running at the deadline, 2027-01-16"
        ):
            run(lambda: sensor(poke_interval=600))
        assert DAY + 3599 <= clock.now - started <= DAY + 4200


def test_an_outage_does_not_end_the_wait(sensor, run, batch_id, emulator, options, clock, restarted) -> None:
    clock.after(30, emulator.stop)
    clock.after(7200, restarted.start)
    assert run(sensor) == batch_id


def test_a_rejected_key_ends_the_task(sensor, run, monkeypatch, emulator, clock) -> None:
    value = {"conn_type": "siliconflow", "host": emulator.base_url, "password": "sk-wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(value))
    started = clock.now
    with pytest.raises(KeyRefusedError, match=r"(?s)Invalid token.*Airflow does not retry this task"):
        run(sensor)
    assert clock.now - started < 60


def test_a_key_that_is_rejected_later_ends_the_wait(sensor, run, emulator, clock) -> None:
    """It may be replaced: a retry reads the connection again."""
    clock.after(30, lambda: emulator.control.fault("GET /batches/{id}", status=401, every=1))
    started = clock.now
    with pytest.raises(BatchWaitError, match=r"gave up polling.*Invalid token"):
        run(sensor)
    assert 3600 <= clock.now - started < 4300


def test_an_empty_batch_id_fails_immediately(sensor, run) -> None:
    with pytest.raises(InvalidRequestError, match="batch_id is None: give the id"):
        run(lambda: sensor(batch_id=None))


def test_a_too_short_interval_fails_at_parsing() -> None:
    with pytest.raises(ValueError, match=r"poll_interval is 0\.5: give at least 1 second"):
        BatchSensor(task_id="wait", batch_id="batch_1", poll_interval=0.5)


def test_a_deferral_uses_interval_and_timeout(batch_id, context, clock) -> None:
    with pytest.raises(TaskDeferred) as deferral:
        BatchSensor(task_id="wait", batch_id=batch_id, poll_interval=30, timeout=3600).execute(context)
    assert deferral.value.trigger.poll_interval == 30
    assert deferral.value.trigger.deadline.timestamp() == clock.now + 3600


class TestReschedule:
    """Each poll runs in its own process."""

    @pytest.fixture
    def look(self, batch_id: str, context: dict[str, Any]) -> Callable[..., Any]:
        """Poll once, as a new task process does."""
        return lambda **arguments: BatchSensor(
            **{"task_id": "wait", "batch_id": batch_id, "deferrable": False, "mode": "reschedule", **arguments}
        ).poke(context)

    def test_it_is_rescheduled_until_the_batch_ends(self, look, batch_id, clock) -> None:
        assert look() is False
        clock.advance(300)
        found = look()
        assert isinstance(found, PokeReturnValue)
        assert found.xcom_value == batch_id

    def test_it_comes_again_after_an_outage(self, look, emulator) -> None:
        emulator.stop()
        assert look() is False

    def test_permanent_errors_fail_immediately(self, look) -> None:
        with pytest.raises(NotFoundError, match="batch_unknown"):
            look(batch_id="batch_unknown")
