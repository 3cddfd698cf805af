from __future__ import annotations

import pytest

from siliconflow_provider.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "row", "0 rows"), (1, "batch", "1 batch"), (2, "batch", "2 batches"), (12_000, "request", "12,000 requests")],
)
def test_nouns_agree_with_their_numbers(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
