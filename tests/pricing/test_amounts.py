from __future__ import annotations

from decimal import Decimal

import pytest

from siliconflow_provider.pricing.amounts import CostSum, format_amount


@pytest.mark.parametrize(
    ("amount", "shown", "rounded_up"),
    [
        ("0", "CNY 0.00", "CNY 0.00"),
        ("12.34", "CNY 12.34", "CNY 12.34"),
        ("1234.5", "CNY 1,234.50", "CNY 1,234.50"),
        ("0.0042", "CNY 0.0042", "CNY 0.0042"),
        ("0.00424", "CNY 0.0042", "CNY 0.0043"),
        ("0.123", "CNY 0.12", "CNY 0.13"),
        ("0.999", "CNY 1.00", "CNY 1.00"),
        ("0.5", "CNY 0.50", "CNY 0.50"),
        ("0.00009999", "CNY 0.000100", "CNY 0.000100"),
        ("99.995", "CNY 100.00", "CNY 100.00"),
        ("1E+30", "CNY 1" + ",000" * 10 + ".00", "CNY 1" + ",000" * 10 + ".00"),
    ],
)
def test_small_amounts_show_two_digits(amount: str, shown: str, rounded_up: str) -> None:
    assert format_amount(Decimal(amount), "CNY") == shown
    assert format_amount(Decimal(amount), "CNY", round_up=True) == rounded_up


def test_sums_are_exact_and_count_unknown_costs() -> None:
    costs = CostSum()
    for cost in (Decimal("1E+25"), Decimal("1E-15"), None, Decimal("0.1"), Decimal("0.2")):
        costs.add(cost)
    assert str(costs.total) == "10000000000000000000000000.300000000000001"
    assert costs.unknown == 1


def test_an_empty_sum_is_zero() -> None:
    assert str(CostSum().total) == "0"
