"""The first items of a source, to try a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from siliconflow_provider.jsonl import LongLine, split_lines


def first_items(items: Iterable[Any], limit: int) -> Iterator[Any]:
    """Yield the first items; of a block of lines, those that are not blank count.

    :param limit: number of items, at least 1
    """
    left = limit
    for item in items:
        if isinstance(item, bytes) and not isinstance(item, LongLine):
            lines = [line for line in split_lines(item) if line.strip()][:left]
            left -= len(lines)
            yield b"".join(lines)
        else:
            left -= 1
            yield item
        if not left:
            return
