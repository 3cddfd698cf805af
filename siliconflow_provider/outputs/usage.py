"""Add up the tokens that the service bills, and tell what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

import msgspec

from siliconflow_provider.outputs.answers import TOO_LONG, UNREADABLE, ResultRow


class Usage(msgspec.Struct):
    """Billed tokens.

    :param prompt: all prompt tokens
    :param cached: those of them that the service took from its cache
    :param unknown: number of answers whose tokens the service does not report
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    unknown: int = 0

    @classmethod
    def of_row(cls, row: ResultRow) -> Self:
        """Return the tokens of a row."""
        return cls(row.prompt_tokens or 0, row.completion_tokens or 0, row.cached_tokens or 0, int(lacks_usage(row)))

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
        self.unknown += other.unknown

    def to_json(self) -> dict[str, int]:
        """Return the tokens for a manifest; `unknown` only if there are such answers."""
        tokens = {"prompt": self.prompt, "completion": self.completion, "cached": self.cached}
        return {**tokens, "unknown": self.unknown} if self.unknown else tokens


def lacks_usage(row: ResultRow) -> bool:
    """Return True if a row has an answer, which is billed, but not its tokens."""
    is_answer = row.status in ("succeeded", "invalid") or (
        row.error is not None and row.error.code in (UNREADABLE, TOO_LONG)
    )
    return is_answer and (row.prompt_tokens is None or row.completion_tokens is None)


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
