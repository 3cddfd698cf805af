"""Add up the tokens that the service bills, and tell what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

import msgspec

from siliconflow_provider.outputs.answers import ResultRow


class Usage(msgspec.Struct):
    """Billed tokens.

    :param prompt: all prompt tokens
    :param cached: those of them that the service took from its cache
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    @classmethod
    def of_row(cls, row: ResultRow) -> Self:
        """Return the tokens of a row."""
        return cls(row.prompt_tokens or 0, row.completion_tokens or 0, row.cached_tokens or 0)

    @classmethod
    def sum(cls, usages: Iterable[Usage]) -> Self:
        """Return the sum."""
        total = cls()
        for usage in usages:
            total.add(usage)
        return total

    def add(self, other: Usage) -> None:
        """Add the tokens of another usage."""
        self.prompt += other.prompt
        self.completion += other.completion
        self.cached += other.cached


@dataclass(frozen=True)
class Price:
    """The price of a job's tokens.

    :param currency: ISO 4217 code
    :param cost_of: returns the exact cost of tokens
    """

    currency: str
    cost_of: Callable[[Usage], Decimal]

    def amount(self, usage: Usage) -> float:
        """Return the cost of tokens as a number for JSON."""
        return float(self.cost_of(usage))
