"""Texts are cut to the room that a page has for them."""

from __future__ import annotations

import pytest

from siliconflow_provider.drawing.markup import lines
from siliconflow_provider.drawing.texts import shortened


def test_a_short_text_stays_whole() -> None:
    # The note on the cut would be as long as the rest.
    assert shortened("x" * 140, 100) == "x" * 140


def test_a_cut_text_says_how_much_is_missing() -> None:
    assert shortened("x" * 2_000, 100) == "x" * 100 + "... (1,900 more characters)"
    assert shortened("x", 100, more=5_000) == "x... (5,000 more characters)"


@pytest.mark.parametrize("character", ["&", "\u202e", "\n", "漢", "😀", '"'])
def test_html_has_three_bytes_for_each_character(character: str) -> None:
    cut = shortened(character * 300, 200)
    kept = cut.partition("...")[0]
    assert 100 < len(kept.encode()) + len(cut) <= 1_000
    assert len(str(lines(kept)).encode()) <= 600
    assert cut.endswith(f"({300 - len(kept):,} more characters)")
