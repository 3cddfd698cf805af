"""A whole document, which loads nothing."""

from __future__ import annotations

import re

from siliconflow_provider.drawing.document import STYLES_ONLY, document
from siliconflow_provider.drawing.markup import element
from siliconflow_provider.drawing.style import STYLE
from tests.documents import HOSTILE, Parsed


def test_the_policy_comes_before_everything_it_forbids() -> None:
    elements = Parsed(document(HOSTILE, element("p", "x"))).elements
    assert [tag for tag, _ in elements] == [
        *("html", "head", "meta", "meta", "meta", "meta", "title", "style", "body", "main", "p"),
    ]
    assert elements[3][1] == {"http-equiv": "Content-Security-Policy", "content": STYLES_ONLY}


def test_a_theme_overrides_the_readers_system() -> None:
    assert '<body class="siliconflow" data-theme="dark">' in document("x", theme="dark")
    assert '<body class="siliconflow">' in document("x")
    assert ".siliconflow[data-theme=dark]{" in STYLE
    assert "@media (prefers-color-scheme:dark){.siliconflow:not([data-theme=light]){" in STYLE


def test_the_style_loads_nothing_and_is_balanced() -> None:
    assert not re.search(r"url\(|@import|https?:|<", STYLE)
    assert STYLE.count("{") == STYLE.count("}")


def test_both_themes_define_the_same_colors() -> None:
    light, dark, _ = (re.findall(r"(--sf-\w+):", block) for block in re.findall(r"\{(--sf-page.*?)\}", STYLE))
    assert light == dark
    assert {f"--sf-{name}" for name in re.findall(r"var\(--sf-(\w+)\)", STYLE)} == set(light)
