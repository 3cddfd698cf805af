from __future__ import annotations

import shlex

import pytest

from siliconflow_provider.wording import command_line, counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "row", "0 rows"), (1, "batch", "1 batch"), (2, "batch", "2 batches"), (12_000, "request", "12,000 requests")],
)
def test_nouns_agree_with_their_numbers(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_a_command_names_batches_and_connection() -> None:
    assert command_line("cancel", ["b1", "b2"], "c") == "python -m siliconflow_provider cancel b1 b2 --conn-id c"
    assert command_line("show", ["b1"]) == "python -m siliconflow_provider show b1"


def test_a_pasted_command_runs_nothing_else() -> None:
    hostile = "b; touch /tmp/x $(id)"
    assert shlex.split(command_line("cancel", [hostile]))[-1] == hostile
