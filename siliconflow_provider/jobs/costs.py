"""Estimate a job before it is submitted, and stop it before it costs more than it may."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import NotFoundError, SiliconFlowError
from siliconflow_provider.api.remedies import billing_page
from siliconflow_provider.inputs import FilePart, Part
from siliconflow_provider.jsonl import line_blocks, read_chunks
from siliconflow_provider.outputs import Price, Usage
from siliconflow_provider.pricing import Estimate, Estimator, Prices, TokenCounter, format_amount
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)


class CostLimitError(ValueError):
    """The job may cost more than `max_cost`. Nothing more was submitted."""


class NoBalanceError(ValueError):
    """The account has no charged balance, which pays for batches. Nothing was submitted."""


@dataclass(frozen=True)
class CostSettings:
    """Say what the tokens of a job cost, and how much it may cost.

    :param prices: None for a job without costs
    :param max_cost: the cost of all rounds together, in the currency of the prices
    :param counter: counts the tokens of texts; by default they are estimated by a rule of thumb
    """

    prices: Prices | None = None
    max_cost: Decimal | None = None
    counter: TokenCounter | None = None

    def price_of(self, model: str | None) -> Price | None:
        """Return the price of a model's tokens, or None if it has none."""
        prices = self.prices
        if prices is None or prices.why_no_price(model) is not None:
            return None

        def cost_of(usage: Usage) -> Decimal:
            cost = prices.cost(model, usage.prompt, usage.completion, usage.cached)
            return Decimal(0) if cost is None else cost

        return Price(prices.currency, cost_of)

    def estimate(
        self, path: Path, parts: Iterable[Part], model: str | None, mean_completion_tokens: Decimal | None = None
    ) -> Estimate:
        """Return the estimate for parts of a request file.

        :param mean_completion_tokens: of an answer, if it is known
        """
        return self.estimate_lines(_blocks_of(path, parts), model, mean_completion_tokens)

    def estimate_lines(
        self, blocks: Iterable[bytes], model: str | None, mean_completion_tokens: Decimal | None = None
    ) -> Estimate:
        """Return the estimate for request lines; see `estimate`."""
        estimator = Estimator(model, self.counter)
        for block in blocks:
            estimator.add(block)
        return estimator.estimate(self.prices, mean_completion_tokens)

    def shown(self, amount: Decimal, *, round_up: bool = False) -> str:
        """Return an amount as people read it."""
        return format_amount(amount, "" if self.prices is None else self.prices.currency, round_up=round_up)

    def check(self, spent: Decimal, bound: Estimate) -> None:
        """Check that the job stays below `max_cost`.

        :param spent: cost of the answers so far
        :param bound: estimate of the requests that run or are to be submitted
        :raises CostLimitError: if it may cost more, or if nothing limits its cost
        """
        if self.max_cost is None:
            return
        if bound.most_cost is None:
            raise CostLimitError(
                f"max_cost is {self.shown(self.max_cost)}, but the cost of this job has no upper bound: "
                f"{bound.reasons['most_cost']}; or leave max_cost out"
            )
        if spent + bound.most_cost > self.max_cost:
            before = f"{self.shown(spent)} spent, and " if spent else ""
            raise CostLimitError(
                f"the job may cost more than max_cost, which is {self.shown(self.max_cost)}: {before}at most "
                f"{self.shown(bound.most_cost, round_up=True)} for {counted(bound.requests, 'request')} (at most "
                f"{bound.most_prompt_tokens:,} prompt and {bound.most_completion_tokens:,} completion tokens).\nRaise "
                "max_cost to go on, or lower max_tokens, or use fewer items"
            )


def _blocks_of(path: Path, parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        with FilePart(path, part) as content:
            yield from line_blocks(read_chunks(content))


def describe_estimate(estimate: Estimate, costs: CostSettings) -> str:
    """Return a log line with the figures that are known."""
    text = f"estimate for {counted(estimate.requests, 'request')}: about {estimate.prompt_tokens:,} prompt tokens"
    if estimate.most_completion_tokens is not None:
        text += f", at most {estimate.most_completion_tokens:,} completion tokens"
    if estimate.cost is not None:
        text += f", about {costs.shown(estimate.cost)}"
    if estimate.most_cost is not None:
        text += f", at most {costs.shown(estimate.most_cost, round_up=True)}"
    reason = estimate.reasons.get("most_cost" if costs.prices is not None else "most_completion_tokens")
    return text if reason is None else f"{text}; no upper bound, since {reason}"


def compare_with_bill(estimate: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimate with the difference between it and the bill in a manifest.

    There is no difference of costs if one of them is unknown, or if the currency of the prices has changed since.
    """
    difference = {"prompt_tokens": manifest["tokens"]["prompt"] - estimate["prompt_tokens"]}
    bill = manifest.get("cost")
    if bill is not None and estimate["most_cost"] is not None and estimate["currency"] == bill["currency"]:
        difference["most_cost"] = float(Decimal(str(bill["total"])) - Decimal(estimate["most_cost"]))
    return {**estimate, "difference": difference}


def check_balance(client: SiliconFlowClient, bound: Decimal | None) -> None:
    """Check that the account can pay for batches. Sites that do not show a balance are not checked.

    :param bound: the most that the job can cost; a smaller balance is a warning
    :raises NoBalanceError: if there is none
    """
    try:
        shown = client.get_account().charge_balance
    except NotFoundError:
        return
    except SiliconFlowError as error:
        log.warning("could not read the account's balance: %s", error)
        return
    try:
        balance = Decimal(shown or "")
    except InvalidOperation:
        return
    if not balance.is_finite():
        return
    page = billing_page(client.base_url)
    if balance <= 0:
        raise NoBalanceError(
            f"the account's charged balance is {shown}, and only that pays for batches: charge it at {page}, and clear "
            "the task. Nothing was submitted"
        )
    if bound is not None and balance < bound:
        log.warning("the account's charged balance is %s, less than the job may cost: charge it at %s", shown, page)
