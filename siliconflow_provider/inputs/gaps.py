"""Map the lines of a request file to the positions of their items. They differ where items were left out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def position_of_line(line: int, gaps: Sequence[int]) -> int:
    """Return the position of the item on a line.

    :param line: number of the line, from 0
    :param gaps: the positions of the items that have no line, in ascending order
    """
    return line + bisect_right(range(len(gaps)), line, key=lambda number: gaps[number] - number)


def line_of_position(position: int, gaps: Sequence[int]) -> int:
    """Return the line of the item at a position, which has one; the opposite of `position_of_line`."""
    return position - bisect_left(gaps, position)


def positions_of_lines(first: int, lines: int, gaps: Sequence[int]) -> range | list[int]:
    """Return the positions of the items on consecutive lines."""
    if not gaps:
        return range(first, first + lines)
    position = position_of_line(first, gaps)
    number = bisect_left(gaps, position)
    positions: list[int] = []
    while len(positions) < lines:
        end = position + lines - len(positions)
        gap = gaps[number] if number < len(gaps) else end
        positions.extend(range(position, min(end, gap)))
        position, number = gap + 1, number + 1
    return positions
