from __future__ import annotations

from siliconflow_provider.api.models import Batch, RequestCounts
from siliconflow_provider.plugins.access import DagAccess
from siliconflow_provider.plugins.batch_lists import BatchList
from siliconflow_provider.plugins.list_page import ListView, list_parts
from siliconflow_provider.plugins.rows import Query, Row

NONE: frozenset[str] = frozenset()


def test_a_cell_that_cannot_be_drawn_is_a_dash() -> None:
    """Python writes no integer of more than 4,300 digits."""
    rows = [Row(Batch("odd", "in_progress", request_counts=RequestCounts(10**5_000, 0, 0))), Row(Batch("b", "x"))]
    view = ListView("", "", ["conn"], "conn", BatchList(), DagAccess(NONE, NONE, NONE), False, Query())
    text = "".join(map(str, list_parts(view, rows, rows, 2, {})))
    assert "<code>odd</code>" in text
    assert "<code>b</code>" in text
