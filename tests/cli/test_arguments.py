"""Types of arguments."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta, timezone

import pytest

from siliconflow_provider.cli.arguments import since
from siliconflow_provider.cli.commands import COMMANDS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T08:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23 08:00+02:00", datetime(2026, 11, 23, 8, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_since_is_a_time_or_an_age(text: str, value: object) -> None:
    assert since(text) == value


@pytest.mark.parametrize("text", ["", "yesterday", "-1h", "1000000d", "7"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="give a time such as"):
        since(text)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_has_its_module(command: object) -> None:
    assert callable(command.load())
