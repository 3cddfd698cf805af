from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from siliconflow_provider.pricing import Estimator, Prices, read_prices

MODEL = "deepseek-ai/DeepSeek-V3"
OTHER = "moonshotai/Kimi-K2-Instruct-0905"


@pytest.fixture
def prices() -> Prices:
    return read_prices(
        {"currency": "CNY", "models": {MODEL: {"input": 1, "output": 4}, OTHER: {"input": 2, "output": 8}}}
    )


def estimator_of(*models: str | None, content: Any = "Hello", **options: Any) -> Estimator:
    estimator = Estimator(**options)
    for model in models:
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 10}
        estimator.add(json.dumps({"body": body}).encode())
    return estimator


def test_costs_are_exact(prices: Prices) -> None:
    found = estimator_of(MODEL, MODEL).estimate(prices, mean_completion_tokens=Decimal("2.5"))
    assert (found.requests, found.prompt_tokens, found.completion_tokens) == (2, 17, 5)
    assert (found.most_prompt_tokens, found.most_completion_tokens) == (170, 20)
    assert found.currency == "CNY"
    assert found.cost == Decimal("0.000037")
    assert found.most_cost == Decimal("0.00025")
    assert found.reasons == {}


def test_each_model_has_its_own_price(prices: Prices) -> None:
    one, two, both = (estimator_of(*models).estimate(prices, 1) for models in ([MODEL], [OTHER], [MODEL, OTHER]))
    assert both.most_cost == one.most_cost + two.most_cost == 3 * one.most_cost
    assert both.cost == one.cost + two.cost


def test_the_default_model_is_for_lines_without_one(prices: Prices) -> None:
    assert estimator_of(None, model=OTHER).estimate(prices) == estimator_of(OTHER, model=MODEL).estimate(prices)


def test_cost_needs_the_mean_of_an_answer(prices: Prices) -> None:
    found = estimator_of(MODEL).estimate(prices)
    assert (found.completion_tokens, found.cost) == (None, None)
    reason = "the mean length of an answer is not known: take it from an earlier job"
    assert found.reasons == {"completion_tokens": reason, "cost": reason}
    assert found.most_cost is not None


def test_a_mean_is_cut_at_the_upper_bound(prices: Prices) -> None:
    assert estimator_of(MODEL).estimate(prices, 1_000.5).completion_tokens == 10


def test_a_model_without_a_price_has_no_amounts(prices: Prices) -> None:
    found = estimator_of(MODEL, "other").estimate(prices, 1)
    assert (found.cost, found.most_cost) == (None, None)
    assert found.reasons["cost"] == found.reasons["most_cost"]
    assert found.reasons["cost"].startswith("model 'other' has no price: add it to prices")
    assert found.most_prompt_tokens is not None


def test_without_prices_there_are_tokens_only() -> None:
    found = estimator_of(MODEL).estimate(mean_completion_tokens=1)
    assert (found.currency, found.cost, found.most_cost) == (None, None, None)
    assert set(found.reasons) == {"cost", "most_cost"}


def test_images_leave_no_amounts(prices: Prices) -> None:
    found = estimator_of(MODEL, content=[{"type": "image_url"}]).estimate(prices, 1)
    assert (found.cost, found.most_cost) == (None, None)
    assert found.completion_tokens == 1


def test_no_requests_cost_nothing(prices: Prices) -> None:
    found = Estimator().estimate(prices)
    assert (found.requests, found.most_prompt_tokens, found.cost, found.most_cost) == (0, 0, 0, 0)
    assert found.reasons == {}


def test_estimates_become_json(prices: Prices) -> None:
    found = estimator_of(MODEL).estimate(prices)
    assert json.loads(json.dumps(found.to_json())) == {
        "requests": 1,
        "prompt_tokens": 8,
        "most_prompt_tokens": 85,
        "completion_tokens": None,
        "most_completion_tokens": 10,
        "currency": "CNY",
        "cost": None,
        "most_cost": "0.000125",
        "reasons": found.reasons,
        "notes": [],
    }
    assert replace(found, most_cost=Decimal("1E+2")).to_json()["most_cost"] == "100"
