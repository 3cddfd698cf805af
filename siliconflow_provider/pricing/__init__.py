"""Count tokens and turn them into amounts of money: before a job as an estimate, after it as the cost of its usage.

Input: prices, request lines and usages. Output: an `Estimate`, or exact decimal amounts.
Start reading at `estimate.py`. `prices.py` has the cost of a usage, `amounts.py` sums and formats amounts.
"""

from __future__ import annotations

from siliconflow_provider.pricing.amounts import format_amount
from siliconflow_provider.pricing.estimate import Estimate, Estimator
from siliconflow_provider.pricing.prices import InvalidPricesError, Prices, UnreadablePricesError, read_prices
from siliconflow_provider.pricing.tokens import TokenCounter, TokenizerError, load_tokenizer

__all__ = [
    "Estimate",
    "Estimator",
    "InvalidPricesError",
    "Prices",
    "TokenCounter",
    "TokenizerError",
    "UnreadablePricesError",
    "format_amount",
    "load_tokenizer",
    "read_prices",
]
