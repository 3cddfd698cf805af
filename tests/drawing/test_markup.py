"""HTML of elements: no text becomes markup."""

from __future__ import annotations

import pytest

from siliconflow_provider.drawing.markup import Markup, element, group, lines
from tests.documents import HOSTILE, Parsed


def test_a_hostile_text_stays_a_text() -> None:
    parsed = Parsed(element("p", HOSTILE))
    assert parsed.elements == [("p", {})]
    assert parsed.text == HOSTILE.replace("\x00", "\\x00").replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")


def test_a_hostile_attribute_stays_one_attribute() -> None:
    ((tag, attributes),) = Parsed(element("p", title=HOSTILE)).elements
    assert (tag, list(attributes)) == ("p", ["title"])
    assert (attributes["title"] or "").startswith("</script><script>alert(1)</script>\"'><img")


def test_elements_nest_and_texts_are_escaped_once() -> None:
    assert str(element("p", "a<b", element("b", "c&d"), None)) == "<p>a&lt;b<b>c&amp;d</b></p>"
    assert str(group("<", element("br"))) == "&lt;<br>"


def test_markup_in_a_formatted_text_is_escaped() -> None:
    # It could have come from anywhere.
    assert str(element("p", f"{element('b', 'x')}")) == "<p>&lt;b&gt;x&lt;/b&gt;</p>"


def test_lines_become_line_breaks() -> None:
    assert str(lines("a<\nb\r\nc\u2028d\x00")) == "a&lt;<br>b<br>c<br>d\\x00"


def test_attributes_have_the_names_of_html() -> None:
    markup = element("input", class_="a", aria_label="b", disabled=True, hidden=False, value=None, size=2)
    assert str(markup) == '<input class="a" aria-label="b" disabled size="2">'


@pytest.mark.parametrize("name", ["script", "style", "iframe", "p onload", "P", "", "p>"])
def test_elements_that_could_run_code_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        element(name, "x")


@pytest.mark.parametrize("name", ["onclick", "style", "srcdoc", "a b", "a=", ""])
def test_attributes_that_could_run_code_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        element("p", **{name: "x"})


@pytest.mark.parametrize("address", ["https://a.b/c?d=1", "/siliconflow/report", "?a=1", "#rows", "./x"])
def test_addresses_of_pages_are_links(address: str) -> None:
    assert Parsed(element("a", "x", href=address)).elements == [("a", {"href": address})]


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", " javascript:x", "java\tscript:x", "data:text/html,x", "s3://b"]
)
def test_other_addresses_are_no_links(address: str) -> None:
    assert Parsed(element("a", "x", href=address)).elements == [("a", {})]


def test_jinja_does_not_escape_markup_again() -> None:
    markup = element("b", "<")
    assert isinstance(markup, Markup)
    assert markup.__html__() == "<b>&lt;</b>"
