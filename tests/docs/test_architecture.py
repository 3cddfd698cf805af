"""The page of the architecture names modules that exist."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, page

ARCHITECTURE = page("docs/architecture.md")
PACKAGE = ROOT / "siliconflow_provider"
MOST_STEPS = 20


def test_each_named_module_exists() -> None:
    names = re.findall(r"`((?:\w+/)*\w+\.py)`", ARCHITECTURE.prose)
    assert names
    paths = [PACKAGE / name for name in names if name != "__init__.py"]
    assert [str(path) for path in paths if not path.is_file()] == []


def test_each_package_is_in_the_table() -> None:
    documented = {name for row in ARCHITECTURE.table("The packages") for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_the_way_of_a_row_is_short() -> None:
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`: ", ARCHITECTURE.section("The way of one row"), re.MULTILINE)
    assert 0 < len(steps) == len(set(steps)) <= MOST_STEPS
