"""The page of promises names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "promises.md").read_text()
ROWS = [cells for line in PAGE.splitlines() if len(cells := line.split(" | ")) == 2 and "---" not in line]


@pytest.mark.parametrize(("promise", "tried_by"), [each for each in ROWS if each[0] != "| promise"])
def test_each_promise_names_a_test_that_exists(promise: str, tried_by: str) -> None:
    files = re.findall(r"`((?:tests|scripts)/[\w/.]+)`", tried_by)
    commands = re.findall(r"`make ([\w-]+)`", tried_by)
    pages = re.findall(r"\]\(([\w.-]+)\)", tried_by)
    assert files or commands
    assert [each for each in files if not (ROOT / each).is_file()] == []
    assert [each for each in pages if not (ROOT / "docs" / each).is_file()] == []
    source = "".join((ROOT / each).read_text() for each in files)
    assert [each for each in re.findall(r"`(test_\w+)`", tried_by) if f"def {each}(" not in source] == []
    targets = (ROOT / "Makefile").read_text()
    assert [each for each in commands if not re.search(rf"^{each}:", targets, re.MULTILINE)] == []
