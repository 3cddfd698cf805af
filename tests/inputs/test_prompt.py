from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import pytest

from siliconflow_provider.inputs.prompt import Prompt
from siliconflow_provider.inputs.values import InvalidItemError


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Q: {q}?", "Q: hi?"),
        ('{q} {"json": {q}} {} { r } {q', 'hi {"json": hi} {} { r } {q'),
        ('{q} {"%a": 1}', 'hi {"%a": 1}'),
        ("{q}{{q}}", "hi{q}"),
        ("{q} {{ q }}", "hi { q }"),
        ('{q} {{"a": {"b": 1}}}', 'hi {"a": {"b": 1}}'),
        ('{q} {"a": {"b": 1}}', 'hi {"a": {"b": 1}}'),
        ('{q} {"a": {"b": {q}}} }}', 'hi {"a": {"b": hi}} }}'),
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


@pytest.mark.parametrize(
    ("prompt", "row", "reason"),
    [
        (
            "{titel}: {text}",
            {"title": "A", "text": "B"},
            "there is no column 'titel' (did you mean 'title'?); the row has 'title', 'text'",
        ),
        (
            "{q} {hint}",
            {"q": "a"},
            "there is no column 'hint'; the row has 'q'. For braces that stay in a prompt, write {% raw %}{{h",
        ),
        ("{q}", {}, "there is no column 'q'; the row has none"),
        ("{Q}", {"q": "a"}, "there is no column 'Q' (did you mean 'q'?); the row has 'q'"),
        ("{q} { q }", {"q": "a"}, "the prompt has { q }; write {q} for the column 'q'"),
        ("{q:.2f}", {"q": 1}, "the prompt has {q:.2f}; write {q} for the column 'q'"),
        ("{q.name}", {"q": 1}, "the prompt has {q.name}; write {q} for the column 'q'"),
        ("Hello", {"q": "a"}, "the prompt names no column, so all rows would ask the same; the row has 'q'"),
        ("{q}", {"q": b"raw"}, "column 'q' has a value of type bytes: turn it into a text; give an image as a URL"),
    ],
)
def test_a_prompt_that_does_not_fit_its_row_is_an_error(prompt: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidItemError) as caught:
        Prompt(prompt).fill(row)
    assert str(caught.value).startswith(reason)
    assert ("did you mean" in reason) <= str(caught.value).endswith(reason)


def test_advice_about_braces_is_for_jinja_or_not() -> None:
    for is_jinja, written in ((True, "{% raw %}{{hint}}{% endraw %}"), (False, "{{hint}}")):
        with pytest.raises(InvalidItemError) as caught:
            Prompt("{q} {hint}", is_jinja=is_jinja).fill({"q": "a"})
        assert str(caught.value).endswith(f" write {written}")


def test_each_row_needs_all_columns() -> None:
    prompt = Prompt("{q} {hint}")
    assert prompt.fill({"q": "a", "hint": "b"}) == "a b"
    with pytest.raises(InvalidItemError, match="there is no column 'hint'"):
        prompt.fill({"q": "b"})


def test_a_column_may_have_any_name() -> None:
    row = {"left number": 1, "a-b": 2, "größe": 3, "100 %": 4}
    assert Prompt("{left number} {a-b} {größe} {100 %} {x y}").fill(row) == "1 2 3 4 {x y}"


def test_the_first_row_tells_the_columns_of_odd_names() -> None:
    prompt = Prompt("{q} {a b}")
    assert prompt.fill({"q": 1}) == "1 {a b}"
    with pytest.raises(InvalidItemError, match="column 'a b' is not in the first row; give all rows the same columns"):
        prompt.fill({"q": 1, "a b": 2})
