"""Estimate a job before it is submitted: its tokens, and with prices its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from siliconflow_provider.pricing.amounts import CostSum
from siliconflow_provider.pricing.prices import Prices
from siliconflow_provider.pricing.requests import MOST_THINKING, TokenSums, bodies_by_model
from siliconflow_provider.pricing.tokens import TokenCounter
from siliconflow_provider.wording import counted

REMEDIES = {
    "mean": "take it from an earlier job",
    "prices": "give those of the model",
    "max_tokens": "set it, such as in request_params",
}


@dataclass(frozen=True)
class Estimate:
    """Tokens and cost of requests. A figure that is not known is None, and `reasons` says why.

    Fields that begin with `most_` are upper bounds for sending each request once.

    :ivar requests: number of requests
    :ivar prompt_tokens: about the number of prompt tokens, without those of images
    :ivar completion_tokens: about the number of completion tokens; None without a mean of earlier answers
    :ivar currency: of the costs; None without prices
    :ivar cost: about the cost, exact for the figures above
    :ivar reasons: says why a figure is None, by the name of its field
    :ivar notes: sentences on requests that make an upper bound high
    """

    requests: int
    prompt_tokens: int
    most_prompt_tokens: int | None
    completion_tokens: int | None
    most_completion_tokens: int | None
    currency: str | None
    cost: Decimal | None
    most_cost: Decimal | None
    reasons: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the estimate for manifests and for other programs. Costs are texts."""
        texts = {name: None if (cost := getattr(self, name)) is None else f"{cost:f}" for name in ("cost", "most_cost")}
        return {**asdict(self), **texts, "notes": list(self.notes)}


class Estimator:
    """Add up the tokens of request lines. Memory does not grow with their number.

    :param model: of requests that name none
    :param counter: counts the tokens of texts, as `load_tokenizer` returns it; by default a rule of thumb does
    :param remedies: for reasons, with the keys of `REMEDIES`
    """

    def __init__(
        self,
        model: str | None = None,
        counter: TokenCounter | None = None,
        remedies: Mapping[str, str] = REMEDIES,
    ) -> None:
        self._model = model
        self._counter = counter
        self._remedies = remedies
        self._sums: dict[str | None, TokenSums] = {}

    def add(self, lines: bytes) -> None:
        """Add one or more whole request lines.

        :raises ValueError: if a line is not a request
        """
        for model, bodies in bodies_by_model(lines, self._model).items():
            self._sums.setdefault(model, TokenSums()).add_lines(bodies, model, self._counter)

    def estimate(self, prices: Prices | None = None, mean_completion_tokens: float | Decimal | None = None) -> Estimate:
        """Return the estimate for the requests that were added.

        :param prices: for the costs
        :param mean_completion_tokens: of an answer, from an earlier job
        """
        sums, mean = list(self._sums.values()), mean_completion_tokens
        figures: dict[str, Any] = {
            "most_prompt_tokens": sum(each.most_prompt for each in sums),
            "completion_tokens": sum(_completion_tokens(each, mean) for each in sums),
            "most_completion_tokens": sum(each.most_completion for each in sums),
            "cost": self._cost(prices, mean),
            "most_cost": self._most_cost(prices),
        }
        reasons = self._why_unknown(prices, has_mean=mean is not None)
        return Estimate(
            requests=sum(each.requests for each in sums),
            prompt_tokens=sum(map(_prompt_tokens, sums)),
            currency=None if prices is None else prices.currency,
            reasons=reasons,
            notes=self._notes(),
            **{name: None if name in reasons else figure for name, figure in figures.items()},
        )

    def _cost(self, prices: Prices | None, mean: float | Decimal | None) -> Decimal:
        costs = CostSum()
        for model, each in self._sums.items():
            tokens = _prompt_tokens(each), _completion_tokens(each, mean)
            costs.add(None if prices is None else prices.cost(model, *tokens))
        return costs.total

    def _most_cost(self, prices: Prices | None) -> Decimal:
        costs = CostSum()
        for model, each in self._sums.items():
            tokens = each.most_prompt, each.most_completion
            costs.add(None if prices is None else prices.highest_cost(model, *tokens))
        return costs.total

    def _why_unknown(self, prices: Prices | None, *, has_mean: bool) -> dict[str, str]:
        """Return a sentence for each figure that is not known, by the name of its field."""
        sums = self._sums.values()
        unlimited, media = sum(each.unlimited for each in sums), sum(each.media for each in sums)
        no_prompt = no_limit = None
        no_mean = no_price = None
        if sums and not has_mean:
            no_mean = f"the mean length of an answer is not known: {self._remedies['mean']}"
        if prices is None:
            no_price = f"there are no prices: {self._remedies['prices']}"
        else:
            no_price = next(filter(None, map(prices.why_no_price, self._sums)), None)
        if media:
            has = f"{counted(media, 'request')} {'has' if media == 1 else 'have'}"
            no_prompt = f"{has} images or other media, whose tokens are unknown"
        if unlimited:
            has = f"{counted(unlimited, 'request')} {'has' if unlimited == 1 else 'have'}"
            no_limit = f"{has} no max_tokens: {self._remedies['max_tokens']}"
        reasons = {
            "most_prompt_tokens": no_prompt,
            "completion_tokens": no_mean,
            "most_completion_tokens": no_limit,
            "cost": no_price or no_prompt or no_mean,
            "most_cost": no_price or no_prompt or no_limit,
        }
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def _notes(self) -> tuple[str, ...]:
        thinking = sum(each.thinking for each in self._sums.values())
        if not thinking:
            return ()
        return (
            f"the upper bounds have {MOST_THINKING:,} tokens of thinking for each answer of "
            f"{counted(thinking, 'request')} without thinking_budget: set it, or set enable_thinking to false",
        )


def _prompt_tokens(sums: TokenSums) -> int:
    return round(sums.prompt_hundredths / 100)


def _completion_tokens(sums: TokenSums, mean: float | Decimal | None) -> int:
    """Return about the number of completion tokens, which is not above the upper bound if there is one."""
    about = int((Decimal(str(mean or 0)) * sums.requests).to_integral_value(ROUND_HALF_UP))
    return about if sums.unlimited else min(about, sums.most_completion)
