"""The first items of a source, to try a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from siliconflow_provider.inputs.problems import FileStart
from siliconflow_provider.inputs.schemas import SourceSchema
from siliconflow_provider.jsonl import LongLine, split_lines


def first_items(items: Iterable[Any], limit: int) -> Iterator[Any]:
    """Yield the first items. Blank lines do not count, but are kept, so that errors name the right line.

    :param limit: number of items, at least 1
    """
    left = limit
    for item in items:
        if isinstance(item, bytes) and not isinstance(item, LongLine):
            lines = split_lines(item)
            ends = [number for number, line in enumerate(lines, start=1) if line.strip()][:left]
            left -= len(ends)
            yield item if left else b"".join(lines[: ends[-1]])
        else:
            left -= not isinstance(item, (FileStart, SourceSchema))
            yield item
        if not left:
            return
