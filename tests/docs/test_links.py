"""Links of the pages lead to files and headings that exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.pages import GENERATED, ROOT, Page, all_pages, page

LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")
REPOSITORY = "https://github.com/siliconflow/airflow-provider-siliconflow/"


def anchors(text: str) -> list[str]:
    """Return the anchors of the headings of a page, which GitHub and MkDocs have to agree on."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    github = [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]
    assert github == [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", each.lower()).strip()) for each in headings]
    return github


@pytest.mark.parametrize("shown", all_pages(), ids=str)
def test_links_lead_somewhere(shown: Page) -> None:
    folder = (ROOT / shown.name).parent
    for link in LINK.findall(shown.prose):
        if link.startswith(REPOSITORY):
            path = re.sub(r"^(?:blob|tree)/main/", "", link.removeprefix(REPOSITORY))
            assert path.startswith("security/") or (ROOT / path).exists(), link
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else (ROOT / shown.name).resolve()
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(page(str(target.relative_to(ROOT))).prose), link


@pytest.mark.parametrize("shown", [each for each in all_pages() if Path(each.name).name not in GENERATED], ids=str)
def test_a_page_has_one_title_and_no_heading_twice(shown: Page) -> None:
    found = anchors(shown.prose)
    assert len(re.findall(r"^# ", shown.prose, re.MULTILINE)) == 1
    assert [name for name, count in Counter(found).items() if count > 1] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(navigation) == sorted(pages)


def test_the_readme_is_short() -> None:
    assert len(page("README.md").text.splitlines()) <= 200
