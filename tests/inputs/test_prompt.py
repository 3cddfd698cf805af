from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import pytest

from siliconflow_provider.inputs.prompt import InvalidItemError, Prompt


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Q: {q}?", "Q: hi?"),
        ('{q} {"json": {q}} {{ q }} {other} {} {q', 'hi {"json": hi} {{ q }} {other} {} {q'),
        ("{q}{{q}}", "hi{hi}"),
        ("{% if %} {q}", "{% if %} hi"),
        ("%s %(q)s 100% {q}", "%s %(q)s 100% hi"),
    ],
)
def test_only_columns_are_replaced(prompt: str, text: str) -> None:
    assert Prompt(prompt).fill({"q": "hi"}) == text


def test_a_value_that_resembles_a_column_stays() -> None:
    assert Prompt("{q}").fill({"q": "{r}", "r": "no"}) == "{r}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (True, "true"),
        (1.5, "1.5"),
        ({"a": [1]}, '{"a":[1]}'),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_values_of_a_cursor_become_text(value: Any, text: str) -> None:
    assert Prompt("{q}").fill({"q": value}) == text


def test_the_first_row_decides_which_names_are_columns() -> None:
    """Otherwise some requests would be billed with a placeholder that is replaced in others."""
    prompt = Prompt("{q} {hint}")
    assert prompt.fill({"q": "a"}) == "a {hint}"
    with pytest.raises(InvalidItemError, match="column 'hint' of the prompt is not in the first row"):
        prompt.fill({"q": "b", "hint": "c"})
    with pytest.raises(InvalidItemError, match="column 'q' is missing"):
        prompt.fill({"hint": "c"})
