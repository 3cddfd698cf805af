"""Numbers in messages: with thousands separators, and with nouns that agree with them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as `1 batch` or `2,000 batches`."""
    if number == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}{ending}"
