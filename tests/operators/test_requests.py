from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.operators.requests import check_items, wrap_requests


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


def test_a_data_frame_is_rejected() -> None:
    class DataFrame(list[str]):
        def __dataframe__(self) -> None: ...

    with pytest.raises(ValueError, match=r"requests is DataFrame: give its rows; in pandas, df.to_dict\('records'\)"):
        check_items(DataFrame(["question", "note"]))


def test_a_function_returning_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="give or return an iterable of requests; it may be empty"):
        check_items(None)
