"""Make a whole HTML document, which loads nothing from anywhere."""

from __future__ import annotations

from siliconflow_provider.drawing.markup import Markup, element, group
from siliconflow_provider.drawing.style import STYLE

# Forbids everything but the document's own styles.
STYLES_ONLY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def style_sheet() -> Markup:
    """Return the style of everything that this package draws, below an element of class `siliconflow`."""
    return Markup(f"<style>{STYLE}</style>")


def document(
    title: str, *body: Markup, theme: str | None = None, policy: str = STYLES_ONLY, referrer: str = "no-referrer"
) -> str:
    """Return an HTML document.

    :param theme: `light` or `dark`; None for that of the reader's system
    :param policy: its Content-Security-Policy
    :param referrer: its policy for the address that other pages learn
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content=referrer),
        element("title", title),
        style_sheet(),
    )
    main = element("body", element("main", *body), class_="siliconflow", data_theme=theme)
    return f"<!DOCTYPE html>\n{element('html', group(head, main), lang='en')}\n"
