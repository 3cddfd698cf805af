"""Whole jobs: what they cost, and `max_cost`."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.emulator.server import EmulatorOptions
from siliconflow_provider.exceptions import (
    InsufficientBalanceError,
    MaxCostError,
    MissedSuccessRateError,
    SiliconFlowError,
)
from siliconflow_provider.jobs.runner import JobRunner
from tests.inference_jobs import Infer, Rows, Run, statuses, sums
from tests.kills import Killed

MODEL = "deepseek-ai/DeepSeek-V3"
PRICES = {"currency": "CNY", "models": {MODEL: {"input": 1000, "output": 4000, "cached_input": 500}}}
PARAMS = {"max_tokens": 100}


@pytest.fixture
def priced(infer: Infer) -> Infer:
    return lambda **arguments: infer(**{"prices": PRICES, "request_params": PARAMS, **arguments})


class Never(BaseModel):
    """A type that no answer fits."""

    answer: Any = None

    @model_validator(mode="before")
    @classmethod
    def refuse(cls, value: Any) -> Any:
        raise ValueError("never")


@pytest.fixture
def refused(priced: Infer) -> Infer:
    """A job whose answers are all billed, and all sent again."""
    return lambda **arguments: priced(requests=sums(3), output_type=Never, **arguments)


def bound(refused: Infer, run: Run) -> Decimal:
    """Return the most that a round of the job can cost."""
    with pytest.raises(MaxCostError) as raised:
        run(lambda: refused(max_cost="0.001"))
    return Decimal(raised.value.args[0].partition("at most CNY ")[2].split()[0])


class TestBill:
    def test_rows_batches_rounds_and_job_have_costs(
        self, priced: Infer, run: Run, rows: Rows, manifest: Any, control: Control, part_lines: Any
    ) -> None:
        part_lines(2)
        control.plan(failing={"positions": [0]})
        summary = run(lambda: priced(requests=sums(4)))
        bill = manifest()
        costs = [row["cost"] for row in rows()]
        tokens = bill["tokens"]
        assert costs == [(row["prompt_tokens"] * 1000 + row["completion_tokens"] * 4000) / 1e6 for row in rows()]
        assert bill["cost"]["total"] == (tokens["prompt"] * 1000 + tokens["completion"] * 4000) / 1e6
        assert sum(map(Decimal, map(str, costs))) == Decimal(str(bill["cost"]["total"]))
        assert [each["round"] for each in bill["cost"]["rounds"]] == [1, 2]
        assert summary["cost"] == bill["cost"]
        assert all(batch["cost"] > 0 for batch in bill["batches"])

    def test_a_model_without_price_has_no_amounts(
        self, priced: Infer, run: Run, rows: Rows, manifest: Any, logged: Any
    ) -> None:
        run(lambda: priced(requests=sums(1), model="other/model"))
        assert "cost" not in manifest()
        assert "cost" not in rows()[0]
        line = next(line for line in logged().splitlines() if "model 'other/model' has no price: add it" in line)
        assert "warning" in line.lower()

    def test_the_estimate_stands_beside_the_bill(self, priced: Infer, run: Run, manifest: Any, logged: Any) -> None:
        run(lambda: priced(requests=sums(3)))
        estimate = manifest()["estimate"]
        assert (estimate["requests"], estimate["most_completion_tokens"]) == (3, 300)
        assert estimate["difference"]["prompt_tokens"] == manifest()["tokens"]["prompt"] - estimate["prompt_tokens"]
        assert "estimate for 3 requests: about " in logged()
        assert "at most 300 completion tokens, at most CNY 1." in logged()


class TestMaxCost:
    def test_a_bound_above_it_is_refused_before_uploads(
        self, priced: Infer, run: Run, control: Control, client: SiliconFlowClient
    ) -> None:
        for _ in range(2):
            with pytest.raises(MaxCostError, match=r"max_cost, which is CNY 1\.00: at most CNY .* for 3 requests"):
                run(lambda: priced(requests=sums(3), max_cost=1))
        assert control.batches_created() == 0
        assert not client.list_files()

    def test_no_bound_is_refused(self, priced: Infer, run: Run, control: Control) -> None:
        with pytest.raises(MaxCostError, match=r"no upper bound: 2 requests have no max_tokens: set it"):
            run(lambda: priced(requests=sums(2), request_params={}, max_cost=1))
        assert control.batches_created() == 0

    def test_a_further_round_has_to_fit(
        self, refused: Infer, run: Run, rows: Rows, control: Control, context: Any, tmp_path: Path
    ) -> None:
        for _ in range(2):
            with pytest.raises(
                MaxCostError, match=r"CNY 0\.\d+ spent, and at most CNY .* for 3 requests .*\nRaise max_cost"
            ):
                run(lambda: refused(max_cost=f"{bound(refused, run):f}"))
        assert statuses(rows()) == ["invalid"] * 3
        assert "Raise max_cost to go on" in (tmp_path / "out" / "report.html").read_text()
        assert context["ti"].xcoms["return_value"]["counts"] == {"invalid": 3}
        assert control.batches_created() == 1
        context["ti"].clear()
        with pytest.raises(MissedSuccessRateError):
            run(lambda: refused(max_cost=100))
        # Twice two rounds.
        assert control.batches_created() == 4

    @pytest.mark.parametrize("after", [True, False])
    @pytest.mark.parametrize("method", ["submit", "collect", "plan_round"])
    def test_a_crash_forgets_no_spending(
        self, refused: Infer, run: Run, control: Control, kill: Any, method: str, after: bool
    ) -> None:
        most = bound(refused, run)
        kill(JobRunner, method, after=after)
        with pytest.raises(Killed):
            run(lambda: refused(max_cost=f"{most:f}"))
        with pytest.raises(MaxCostError, match="spent"):
            run(lambda: refused(max_cost=f"{most:f}"))
        assert control.batches_created() == 1

    def test_lost_results_cost_the_most(self, refused: Infer, run: Run, control: Control, context: Any) -> None:
        control.plan(gone_seconds=10**6)
        most = bound(refused, run)
        with pytest.raises(MissedSuccessRateError):
            run(lambda: refused(max_cost=f"{most:f}"))
        context["ti"].clear()
        with pytest.raises(MaxCostError, match=rf"CNY {most - Decimal('0.01')}|CNY {most}"):
            run(lambda: refused(max_cost=f"{most * 2 - Decimal('0.1'):f}"))
        assert control.batches_created() == 1

    @pytest.mark.parametrize(("value", "cause"), [(0, "max_cost is 0"), ("much", "max_cost is 'much'")])
    def test_it_is_an_amount(self, priced: Infer, run: Run, value: Any, cause: str) -> None:
        with pytest.raises(ValueError, match=f"{cause}: give an amount above 0"):
            run(lambda: priced(requests=sums(1), max_cost=value))

    def test_it_needs_prices(self, infer: Infer, run: Run) -> None:
        with pytest.raises(ValueError, match=r"max_cost is 1, but there are no prices: give prices=, or set them"):
            run(lambda: infer(requests=sums(1), max_cost=1))


class TestBalance:
    @pytest.fixture
    def options(self, options: EmulatorOptions, balance: str) -> EmulatorOptions:
        return replace(options, charge_balance=Decimal(balance))

    @pytest.mark.parametrize("balance", ["0"])
    def test_without_a_charged_balance_nothing_is_uploaded(
        self, infer: Infer, run: Run, client: SiliconFlowClient
    ) -> None:
        with pytest.raises(InsufficientBalanceError, match=r"charged balance is 0.*: charge it at https://"):
            run(lambda: infer(requests=sums(1)))
        assert not client.list_files()

    @pytest.mark.parametrize("balance", ["0.01"])
    def test_a_balance_below_the_bound_is_a_warning(self, priced: Infer, run: Run, logged: Any) -> None:
        run(lambda: priced(requests=sums(3)))
        assert "the account's charged balance is 0.01, less than the job may cost" in logged()

    @pytest.mark.parametrize("shown", ["NaN", "sNaN", "Infinity", "none", "1e400", ""])
    @pytest.mark.parametrize("balance", ["5"])
    def test_an_odd_balance_stops_nothing(self, infer: Infer, run: Run, control: Control, shown: str) -> None:
        body = {"code": 20000, "message": "OK", "data": {"id": "me", "chargeBalance": shown}}
        control.fault("GET /user/info", status=200, body=body, times=20)
        run(lambda: infer(requests=sums(1)))
        assert control.batches_created() == 1

    @pytest.mark.parametrize("balance", ["5"])
    @pytest.mark.parametrize("status", [404, 503])
    def test_an_unknown_balance_stops_nothing(self, infer: Infer, run: Run, control: Control, status: int) -> None:
        control.fault("GET /user/info", status=status, times=20)
        run(lambda: infer(requests=sums(1)))
        assert control.batches_created() == 1


class TestUnknownUsage:
    USAGES = (
        None,
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": 2**60, "completion_tokens": 2**60},
        {"prompt_tokens": "many", "completion_tokens": "few"},
    )

    @pytest.mark.parametrize("usage", USAGES, ids=str)
    def test_an_answer_without_usage_costs_the_most(
        self, refused: Infer, run: Run, control: Control, usage: dict[str, Any] | None
    ) -> None:
        most = bound(refused, run)
        control.plan(answers=[{"usage": usage}])
        with pytest.raises(MaxCostError, match="spent"):
            run(lambda: refused(max_cost=f"{most * 2 - Decimal('0.1'):f}"))
        assert control.batches_created() == 1

    def test_its_cost_is_unknown(
        self, priced: Infer, run: Run, control: Control, rows: Rows, manifest: Any, logged: Any
    ) -> None:
        control.plan(answers={"0 + 1": {"content": "1", "usage": None}})
        run(lambda: priced(requests=sums(2)))
        assert [row["cost"] is None for row in rows()] == [True, False]
        assert manifest()["tokens"]["unknown"] == 1
        assert "and 1 answer whose tokens the service does not report" in logged()

    def test_counts_can_be_texts(self, priced: Infer, run: Run, control: Control, rows: Rows) -> None:
        control.plan(answers={"0 + 1": {"content": "1", "usage": {"prompt_tokens": "500", "completion_tokens": "5"}}})
        run(lambda: priced(requests=sums(1)))
        assert (rows()[0]["prompt_tokens"], rows()[0]["cost"]) == (500, 0.52)


class TestAnswersFirst:
    """Answers are written before a task fails, whatever made it stop."""

    def test_a_lower_cap_between_waves(
        self, priced: Infer, run: Run, control: Control, kill: Any, part_lines: Any, rows: Rows
    ) -> None:
        part_lines(2)
        control.plan(failing={"positions": [1], "code": "503", "once": True})
        kill(JobRunner, "submit", nth=2)
        with pytest.raises(Killed):
            run(lambda: priced(requests=sums(8), max_active_batches=1, max_cost=1000))
        for _ in range(2):
            with pytest.raises(MaxCostError, match="spent"):
                run(lambda: priced(requests=sums(8), max_active_batches=1, max_cost="0.9"))
            assert statuses(rows()) == ["succeeded", "failed", *["unfinished"] * 6]
        run(lambda: priced(requests=sums(8), max_active_batches=1, max_cost=1000))
        assert statuses(rows()) == ["succeeded"] * 8

    def test_one_batch_that_delivers_nothing(
        self, priced: Infer, run: Run, control: Control, part_lines: Any, rows: Rows
    ) -> None:
        part_lines(2)
        control.plan(nth=1, unwritten={"positions": [0, 1]})
        with pytest.raises(SiliconFlowError, match="request counts"):
            run(lambda: priced(requests=sums(6), max_active_batches=2, max_cost=1000))
        assert sorted(statuses(rows()))[:2] == ["succeeded"] * 2

    @pytest.mark.parametrize(("status", "message"), [(429, "slow down"), (400, "maximum number of active batches")])
    def test_creates_that_stay_refused(
        self, infer: Infer, run: Run, control: Control, part_lines: Any, rows: Rows, status: int, message: str
    ) -> None:
        part_lines(1)
        control.fault("POST /batches", status=status, nth=2, times=10**6, body={"code": 1, "message": message})
        with pytest.raises(SiliconFlowError, match=message):
            run(lambda: infer(requests=sums(3), max_active_batches=1))
        assert statuses(rows()) == ["succeeded", "unfinished", "unfinished"]


def test_an_older_round_shown_as_running_costs_the_most(
    refused: Infer, run: Run, control: Control, kill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list can be out of date."""
    most = bound(refused, run)
    kill(JobRunner, "plan_round", after=True)
    with pytest.raises(Killed):
        run(lambda: refused(max_cost=1000))
    from_json = Batch.from_json.__func__  # type: ignore[attr-defined]

    def stale(cls: type[Batch], data: Any) -> Batch:
        past = {"status": "in_progress", "completed_at": None, "output_file_id": None, "request_counts": None}
        return from_json(cls, {**data, **past} if data.get("status") == "completed" else data)

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "from_json", classmethod(stale))
        with pytest.raises(MaxCostError):
            run(lambda: refused(max_cost=f"{most * 2 - Decimal('0.1'):f}"))
    assert control.batches_created() == 1
