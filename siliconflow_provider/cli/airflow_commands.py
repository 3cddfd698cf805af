"""The commands of `airflow siliconflow`. Airflow calls this from version 3.2 on, for its provider info's key `cli`."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any

from siliconflow_provider.cli.arguments import Command
from siliconflow_provider.cli.commands import COMMANDS
from siliconflow_provider.cli.connection import DEFAULT_CONN_ID, KEY_VARIABLE
from siliconflow_provider.cli.program import run


def airflow_commands() -> list[Any]:
    """Return the group `siliconflow` for Airflow's command line."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    return [
        GroupCommand(
            name="siliconflow",
            help="SiliconFlow batch inference",
            subcommands=[
                ActionCommand(
                    name=command.name,
                    help=command.summary,
                    func=partial(_run, command),
                    args=tuple(Arg(argument.flags, **argument.settings) for argument in command.arguments),
                )
                for command in COMMANDS
            ],
        )
    ]


def _run(command: Command, options: argparse.Namespace) -> None:
    if command.needs_client and options.base_url is None and not os.environ.get(KEY_VARIABLE):
        options.conn_id = options.conn_id or DEFAULT_CONN_ID
    sys.exit(run(command, options, "airflow siliconflow"))
