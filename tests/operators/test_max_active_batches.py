"""Whole jobs: `max_active_batches`, and a service that limits how many batches are active."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import RateLimitError
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.server import EmulatorOptions
from siliconflow_provider.jobs.runner import JobRunner
from tests.inference_jobs import Infer, Rows, Run, assert_nothing_was_bought_twice, batches, contents, sums
from tests.kills import Killed

ANSWERS = [str(number + 1) for number in range(9)]


@pytest.fixture(autouse=True)
def one_request_a_part(part_lines: Any) -> None:
    part_lines(1)


def most_active(client: SiliconFlowClient) -> int:
    """Return how many batches were active at once at most."""
    times = [(batch.timing.created_at, batch.timing.ended_at) for batch in batches(client)]
    return max(sum(start <= moment and (end is None or end > moment) for start, end in times) for moment, _ in times)


class TestOwnLimit:
    @pytest.mark.parametrize(("most", "waits"), [(4, 3), (1, 9)])
    def test_parts_are_submitted_as_batches_end(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, logged: Any, most: int, waits: int
    ) -> None:
        run(lambda: infer(requests=sums(9), max_active_batches=most, deferrable=True))
        assert contents(rows()) == ANSWERS
        assert most_active(client) == most
        assert len({batch.timing.created_at for batch in batches(client)}) == waits
        rest = {4: "5 wait", 1: "8 wait"}[most]
        assert f"submitted {most} of 9 parts; {rest} until batches have ended" in logged()

    def test_a_wait_ends_when_half_are_free(
        self, infer: Infer, run: Run, client: SiliconFlowClient, control: Control, clock: Any
    ) -> None:
        control.plan(run_seconds=1000, every=4)
        started = clock.now
        run(lambda: infer(requests=sums(9), max_active_batches=4, deferrable=True))
        assert most_active(client) == 4
        # Two slow batches side by side; one after the other, they would take 2,000 seconds.
        assert clock.now - started < 1500

    def test_a_worker_submits_them_in_one_run(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, control: Control
    ) -> None:
        run(lambda: infer(requests=sums(9), max_active_batches=2))
        assert contents(rows()) == ANSWERS
        assert most_active(client) == 2
        assert_nothing_was_bought_twice(control, 9)

    @pytest.mark.parametrize("nth", [1, 2, 3])
    @pytest.mark.parametrize("after", [True, False])
    def test_it_holds_after_a_crash(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, control: Control, kill: Any, nth: int,
        after: bool,
    ) -> None:  # fmt: skip
        kill(JobRunner, "submit", nth=nth, after=after)
        for _ in range(2):
            try:
                run(lambda: infer(requests=sums(9), max_active_batches=3, deferrable=True))
            except Killed:
                continue
        assert contents(rows()) == ANSWERS
        assert most_active(client) == 3
        assert_nothing_was_bought_twice(control, 9)

    def test_it_holds_in_later_rounds(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, control: Control
    ) -> None:
        control.plan(failing={"share": 1.0}, every=2)
        run(lambda: infer(requests=sums(6), max_active_batches=2, max_rounds=4, min_success_rate=0.5))
        assert most_active(client) == 2
        assert {batch.metadata["airflow_round"] for batch in batches(client)} > {"1"}

    @pytest.mark.parametrize("most", [0, -1])
    def test_it_is_at_least_one(self, infer: Infer, most: int) -> None:
        with pytest.raises(ValueError, match=r"max_active_batches is .*: give at least 1, or None"):
            infer(requests=sums(1), max_active_batches=most)


class TestLimitOfService:
    @pytest.fixture
    def options(self, options: EmulatorOptions) -> EmulatorOptions:
        return replace(options, max_active_batches=2, run_seconds=4000)

    def test_parts_wait_until_a_batch_ended(
        self, infer: Infer, run: Run, rows: Rows, client: SiliconFlowClient, control: Control, logged: Any
    ) -> None:
        run(lambda: infer(requests=sums(5), deferrable=True))
        assert contents(rows()) == ANSWERS[:5]
        assert most_active(client) == 2
        assert_nothing_was_bought_twice(control, 5)
        assert "3 parts wait until a batch has ended, since the service takes no more now" in logged()

    def test_foreign_batches_leave_an_error(
        self, infer: Infer, run: Run, client: SiliconFlowClient, sums_file: str
    ) -> None:
        """No batch of this job can end."""
        for _ in range(2):
            client.create_batch(sums_file)
        with pytest.raises(RateLimitError, match="too many active batches: at most 2"):
            run(lambda: infer(requests=sums(1)))


@pytest.fixture
def sums_file(client: SiliconFlowClient, sums: Any, tmp_path: Any) -> str:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(sums(1))
    return client.upload_file(path).id


def test_a_400_can_name_the_limit(
    infer: Infer, run: Run, rows: Rows, control: Control, client: SiliconFlowClient
) -> None:
    body = {"code": 20012, "message": "You have reached the maximum number of running jobs", "data": None}
    control.fault("POST /batches", kind="status", status=400, body=body, nth=2, times=2)
    run(lambda: infer(requests=sums(3), max_active_batches=1))
    assert contents(rows()) == ANSWERS[:3]
    assert_nothing_was_bought_twice(control, 3)
