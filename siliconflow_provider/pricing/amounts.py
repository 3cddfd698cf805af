"""Exact amounts of money: sum them, and format them for people."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_UP, Context, Decimal, Inexact

# More digits than an amount can have. An amount that would have to be rounded is an error.
EXACT = Context(prec=100, traps=[Inexact])
SIGNIFICANT_DIGITS = 2


class CostSum:
    """Add amounts without rounding. Memory does not grow with their number.

    :ivar unknown: number of costs that were None
    """

    def __init__(self) -> None:
        self._total = Decimal(0)
        self.unknown = 0

    @property
    def total(self) -> Decimal:
        """The sum of the known costs."""
        return plain(self._total)

    def add(self, cost: Decimal | None) -> None:
        """Add the cost of a row; None if it is unknown."""
        if cost is None:
            self.unknown += 1
        else:
            self._total = EXACT.add(self._total, cost)


def plain(amount: Decimal) -> Decimal:
    """Return an equal amount without trailing zeros and without an exponent in its text."""
    normal = amount.normalize(EXACT)
    exponent = normal.as_tuple().exponent
    return normal.quantize(Decimal(1), context=EXACT) if isinstance(exponent, int) and exponent > 0 else normal


def format_amount(amount: Decimal, currency: str, *, round_up: bool = False) -> str:
    """Return an amount for people, such as `CNY 1,234.50` or `CNY 0.0042`.

    It has two decimal places. A smaller amount has as many as show its first two digits that are not zero.

    :param round_up: for upper bounds. Otherwise the nearest amount is shown
    """
    places = max(2, SIGNIFICANT_DIGITS - 1 - amount.adjusted()) if amount else 2
    rounding = ROUND_CEILING if round_up else ROUND_HALF_UP
    shown = amount.quantize(Decimal(1).scaleb(-places), rounding, Context(prec=EXACT.prec))
    return f"{currency} {shown:,f}"
