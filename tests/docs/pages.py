"""The pages of the documentation, as the tests of this directory read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# Written by a command each; they have no examples.
GENERATED = ("crash-matrix.md", "fault-matrix.md", "matrix.md", "races.md")
_FENCE = re.compile(r"^( *)```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    :param title: the file that it stands for; empty for a fragment
    """

    language: str
    title: str
    text: str


@dataclass(frozen=True)
class Page:
    """A page in Markdown.

    :param name: its path below the repository
    """

    name: str
    text: str

    def __str__(self) -> str:
        return self.name

    @property
    def blocks(self) -> list[Block]:
        """Its fenced blocks."""
        return [Block(language, title, text) for _, language, title, text in _FENCE.findall(self.text)]

    @property
    def prose(self) -> str:
        """Its text without the fenced blocks."""
        return _FENCE.sub("", self.text)

    def section(self, heading: str) -> str:
        """Return the text below a heading of any level, up to the next one of its level or above."""
        start = re.search(rf"^(#+) {re.escape(heading)}$", self.text, re.MULTILINE)
        assert start is not None, f"{self.name} has no heading {heading!r}"
        rest = self.text[start.end() :]
        end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest

    def table(self, heading: str) -> list[list[str]]:
        """Return the cells of the first table below a heading, without its head."""
        lines = self.section(heading).splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("| ---"))
        rows = []
        for line in lines[first + 1 :]:
            if not line.startswith("|"):
                break
            cells = re.split(r"(?<= )\|(?= )", line.removeprefix("|").removesuffix("|"))
            rows.append([cell.strip() for cell in cells])
        return rows


@cache
def page(name: str) -> Page:
    """Return a page by its path below the repository."""
    return Page(name, (ROOT / name).read_text(encoding="utf-8"))


def all_pages() -> list[Page]:
    """Return all pages for users and contributors."""
    names = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
    names += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
    return [page(each) for each in names]


def names_in(cell: str) -> list[str]:
    """Return the names that a table's cell shows as code."""
    return re.findall(r"`([^`]+)`", cell)
