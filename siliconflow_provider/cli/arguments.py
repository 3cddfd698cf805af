"""Describe commands and their arguments once, for argparse and for Airflow's own command line."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from importlib import import_module
from typing import Any, NamedTuple, Protocol

# The exit code after Ctrl-C, as shells report a program that SIGINT has ended.
INTERRUPTED = 130
# The largest number of tokens that an option may have.
MOST_TOKENS = 10**9
_AGE = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Outcome(NamedTuple):
    """The result of a command: the text for the standard output, and the exit code."""

    output: str
    code: int = 0


class Run(Protocol):
    """The function of a command.

    :raises ArgumentError: if the options do not fit together
    """

    def __call__(self, options: argparse.Namespace, client: Any) -> Outcome: ...


class Argument:
    """An argument of a command.

    :param flags: such as `--json`, or the name of a positional argument
    :param settings: what `ArgumentParser.add_argument` takes, as far as Airflow's `Arg` takes it too
    """

    def __init__(self, *flags: str, **settings: Any) -> None:
        self.flags = flags
        self.settings = settings


@dataclass(frozen=True)
class Command:
    """A command. The module of this package that is named like it has the function `run`.

    :param summary: one line for the list of commands
    :param needs_client: True if it talks to the service; `run` then gets a client, otherwise None
    """

    name: str
    summary: str
    arguments: tuple[Argument, ...]
    needs_client: bool = True

    def load(self) -> Run:
        """Return the command's function. Its module is imported only now."""
        run: Run = import_module(f"{__package__}.{self.name}").run
        return run


def usage_error(message: str) -> argparse.ArgumentError:
    """Return the error for arguments that do not fit together, or for a connection that cannot be used."""
    return argparse.ArgumentError(None, message)


def params(text: str) -> Mapping[str, Any]:
    """Return the parameters of requests."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("give a JSON object")
    return value


def count(text: str) -> int:
    """Return a number of items."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be a number of at least 1")
    return int(text)


def number(text: str) -> Decimal:
    """Return a number of tokens."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and 0 <= value <= MOST_TOKENS):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {MOST_TOKENS:,}")
    return value


def since(text: str) -> datetime | timedelta:
    """Return a time, or the age that `24h` or `7d` mean. A time without an offset is in UTC."""
    age = _AGE.fullmatch(text)
    if age:
        return timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("give a time such as 2026-11-23T08:00, or an age such as 24h or 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
