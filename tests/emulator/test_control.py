from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.emulator.errors import ControlError
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions


def test_control_is_off_by_default(tmp_path: Path) -> None:
    with (
        Emulator(EmulatorOptions(tmp_path)) as emulator,
        pytest.raises(ControlError, match=r"EmulatorOptions\(control=True\)"),
    ):
        _ = emulator.control


def test_counts_need_a_running_emulator(options: EmulatorOptions) -> None:
    new, stopped = (Emulator(options) for _ in range(2))
    with stopped:
        assert stopped.control.batches_created() == 0
    for emulator in (new, stopped):
        for ask in (emulator.control.batches_created, emulator.control.executions):
            with pytest.raises(ControlError, match="start it first"):
                ask()


def test_plans_may_be_added_before_the_start(
    options: EmulatorOptions, clock: Any, new_api: Any, sums: Callable[[int], bytes]
) -> None:
    emulator = Emulator(options, clock=clock)
    emulator.control.plan(end="failed", queue_seconds=0)
    with emulator:
        api = new_api(emulator)
        assert api.batch(api.create(sums(1)))["status"] == "failed"
        assert emulator.control.batches_created() == 1


def test_held_clock_applies_to_batches_urls_and_log(
    options: EmulatorOptions, clock: Any, new_api: Any, sums: Callable[[int], bytes]
) -> None:
    with Emulator(options, clock=clock) as emulator:
        emulator.control.clock.hold(1_900_000_000)
        api = new_api(emulator)
        batch_id = api.create(sums(1))
        emulator.control.clock.advance(115)
        assert api.batch(batch_id)["completed_at"] == 1_900_000_115
        emulator.control.clock.release()
        assert api.batch(batch_id)["status"] == "in_queue"
        # The list contains a batch with a future creation time, too.
        assert [item["id"] for item in api.call("GET", "/batches").json()["data"]] == [batch_id]
        emulator.stop()
    assert '"time": "2030-03-17T17:48:35.000+00:00"' in (options.data_dir / "requests.log").read_text()
