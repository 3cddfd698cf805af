"""Tables and lists of figures."""

from __future__ import annotations

import pytest

from siliconflow_provider.drawing.tables import badge, facts, table
from tests.documents import HOSTILE, Parsed


def test_each_cell_has_its_heading() -> None:
    cells = [attributes for tag, attributes in Parsed(table(["id", "status"], [["a", "b"]])).elements if tag == "td"]
    assert cells == [{"data-label": "id"}, {"data-label": "status"}]


def test_a_row_without_all_cells_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        table(["id", "status"], [["a"]])


def test_hostile_cells_stay_texts() -> None:
    tags = {tag for tag, _ in Parsed(table([HOSTILE], [[HOSTILE]], HOSTILE)).elements}
    assert tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_unknown_facts_are_left_out() -> None:
    assert str(facts({"rows": "3", "cost": None})) == ('<dl class="sf-facts"><div><dt>rows</dt><dd>3</dd></div></dl>')


def test_a_badge_has_its_kind() -> None:
    assert str(badge("failed", "bad")) == '<span class="sf-badge sf-bad">failed</span>'
