from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from siliconflow_provider.inputs.schemas import SourceSchema
from siliconflow_provider.operators.requests import check_items, items_at, wrap_requests


def test_requests_are_neither_rendered_nor_fully_shown() -> None:
    given = wrap_requests(["{{ a }}"] * 5000)
    assert not isinstance(given, list)
    assert (repr(given), repr(wrap_requests(iter([1])))) == ("<list of 5,000>", "<list_iterator>")
    assert list(given) == ["{{ a }}"] * 5000
    assert wrap_requests(given) is given


@pytest.mark.parametrize("value", ["a text", b"bytes", {"a": "row"}, 7])
def test_values_that_are_not_requests_are_rejected(value: Any) -> None:
    with pytest.raises(ValueError, match="give an iterable of texts, message lists or rows"):
        wrap_requests(value)


def test_a_data_frame_gives_its_rows() -> None:
    rows = [{"id": 1, "q": "a"}, {"id": 2, "q": "b"}]
    given = check_items(pandas.DataFrame(rows))
    schema, *items = given
    assert isinstance(schema, SourceSchema)
    assert items == list(given)[1:] == rows
    assert repr(given) == "<DataFrame of 2>"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", b'{"id": "1", "q": "a"}\n'),
        ("in.csv.gz", gzip.compress(b"id,q\n1,a\n")),
        ("in", b'{"id": "1", "q": "a"}\n'),
    ],
)
def test_a_path_gives_the_items_of_its_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(content)
    for path in (tmp_path / "folder" / name, tmp_path / "folder", tmp_path / "f*" / "in*"):
        item = list(items_at(str(path)))[-1]
        assert (json.loads(item) if isinstance(item, bytes) else item) == {"id": "1", "q": "a"}


def test_a_function_returning_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="give or return an iterable of requests; it may be empty"):
        check_items(None)
