"""Build HTML from elements. A text is always escaped, so that no text of a user or of the service becomes markup."""

from __future__ import annotations

import re
from html import escape

from siliconflow_provider.api.service_texts import printable

_NAME = re.compile(r"[a-z][a-z0-9]*\Z")
_ATTRIBUTE = re.compile(r"(?!on|style\Z|srcdoc\Z)[a-z][a-zA-Z0-9-]*\Z")
# Browsers read the content of these as it is: escaping would not protect it.
_RAW = frozenset({"iframe", "noembed", "noframes", "noscript", "plaintext", "script", "style", "xmp"})
_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta", "wbr"})
_ADDRESSES = frozenset({"action", "formaction", "href", "src"})
# Others, such as `javascript:`, can run code.
_SAFE_ADDRESS = re.compile(r"https?://|[/?#.]", re.IGNORECASE)


class Markup:
    """HTML that is not escaped again. `element`, `group` and `lines` make it from texts."""

    __slots__ = ("_html",)

    def __init__(self, html: str) -> None:
        self._html = html

    def __str__(self) -> str:
        return self._html

    def __html__(self) -> str:
        """Return the HTML; Jinja then does not escape it."""
        return self._html


Child = Markup | str | None
Attribute = str | float | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element.

    :param children: texts are escaped, and their control and bidi characters are made visible; None is left out
    :param attributes: `class_` is `class`, and `aria_label` is `aria-label`. None and False are left out. An address
        that is neither HTTP nor relative is left out too
    :raises ValueError: if the element or an attribute could run code
    """
    if not _NAME.match(name) or name in _RAW:
        raise ValueError(f"element {name!r} is not allowed")
    start = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(start if name in _VOID else f"{start}{group(*children)}</{name}>")


def group(*children: Child) -> Markup:
    """Return elements and texts one after the other, without an element around them."""
    return Markup("".join(_escaped(child) if isinstance(child, str) else str(child or "") for child in children))


def lines(text: str) -> Markup:
    """Return a text with its line ends as line breaks."""
    return Markup("<br>".join(map(_escaped, text.splitlines())))


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if not _ATTRIBUTE.match(name):
        raise ValueError(f"attribute {name!r} is not allowed")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    if name in _ADDRESSES and not _SAFE_ADDRESS.match(str(value)):
        return ""
    return f' {name}="{_escaped(str(value))}"'


def _escaped(text: str) -> str:
    return escape(printable(text))
