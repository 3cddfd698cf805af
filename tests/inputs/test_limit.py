from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.inputs.limit import first_items
from siliconflow_provider.inputs.problems import FileStart
from siliconflow_provider.jsonl import LongLine


@pytest.mark.parametrize(
    ("items", "first"),
    [
        (["a", "b", "c"], ["a", "b"]),
        (["a"], ["a"]),
        ([], []),
        ([FileStart("a"), b"1\n", FileStart("b"), b"2\n3\n"], [FileStart("a"), b"1\n", FileStart("b"), b"2\n"]),
        ([b"1\n2\n3\n"], [b"1\n2\n"]),
        ([b"1\n\n", b" \n2\n\n3\n"], [b"1\n\n", b" \n2\n"]),
        ([LongLine(b"1"), b"2\n3\n"], [LongLine(b"1"), b"2\n"]),
    ],
)
def test_the_first_items_are_taken(items: list[Any], first: list[Any]) -> None:
    assert list(first_items(items, 2)) == first


def test_no_more_items_are_read_than_are_taken() -> None:
    items = iter("abc")
    assert list(first_items(items, 2)) == ["a", "b"]
    assert next(items) == "c"
