"""Format numbers in messages, with thousands separators and nouns that agree, and name commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 batch` or `2,000 batches`."""
    if number == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}{ending}"


def command_line(command: str, batch_ids: Iterable[str], conn_id: str | None = None) -> str:
    """Return the command line that shows or cancels batches, for messages. It can be pasted into a shell.

    :param command: `show` or `cancel`
    :param conn_id: id of the Airflow connection; None if it is unknown
    """
    connection = () if conn_id is None else ("--conn-id", conn_id)
    return shlex.join(("python", "-m", "siliconflow_provider", command, *batch_ids, *connection))
