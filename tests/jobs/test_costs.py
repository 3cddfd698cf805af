from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.jobs.costs import compare_with_bill

ESTIMATE = {"prompt_tokens": 10, "currency": "CNY", "most_cost": "2.5"}


@pytest.mark.parametrize(
    ("estimate", "bill", "difference"),
    [
        (ESTIMATE, {"cost": {"currency": "CNY", "total": 1.5}}, {"prompt_tokens": -2, "most_cost": -1.0}),
        (ESTIMATE, {"cost": {"currency": "USD", "total": 1.5}}, {"prompt_tokens": -2}),
        (
            {**ESTIMATE, "currency": None, "most_cost": None},
            {"cost": {"currency": "CNY", "total": 1.5}},
            {"prompt_tokens": -2},
        ),
        (ESTIMATE, {}, {"prompt_tokens": -2}),
    ],
    ids=["known", "another currency", "no bound", "no prices"],
)
def test_costs_of_one_currency_are_compared(estimate: Any, bill: Any, difference: Any) -> None:
    compared = compare_with_bill(estimate, {"tokens": {"prompt": 8}, **bill})
    assert compared == {**estimate, "difference": difference}
