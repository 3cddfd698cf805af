from __future__ import annotations

import pytest

from siliconflow_provider.inputs.gaps import line_of_position, position_of_line, positions_of_lines


@pytest.mark.parametrize("gaps", [[], [0], [3], [9], [0, 1, 2], [1, 4, 5, 8], [0, 2, 4, 6, 8]])
def test_lines_and_positions_map_to_each_other(gaps: list[int]) -> None:
    positions = [position for position in range(10) if position not in gaps]
    assert [position_of_line(line, gaps) for line in range(len(positions))] == positions
    assert [line_of_position(position, gaps) for position in positions] == list(range(len(positions)))
    for first in range(len(positions)):
        for lines in range(len(positions) - first + 1):
            assert list(positions_of_lines(first, lines, gaps)) == positions[first : first + lines]
