"""Read HTML as a browser does, and hostile text for it."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)> & \x00\x1b[2J\u202egnp.exe"


class Parsed(HTMLParser):
    """The elements and the text of HTML, as a browser reads them."""

    def __init__(self, html: object) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(str(html))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
