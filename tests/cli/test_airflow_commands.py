"""`airflow siliconflow`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import pytest
from airflow.providers_manager import ProvidersManager

from siliconflow_provider import get_provider_info
from siliconflow_provider.cli.airflow_commands import airflow_commands
from siliconflow_provider.cli.commands import COMMANDS

# Airflow takes commands of providers from 3.2 on.
TAKES_COMMANDS = hasattr(ProvidersManager, "cli_command_functions")
PROGRAMS = [["siliconflow_provider"], *([["airflow", "siliconflow"]] if TAKES_COMMANDS else [])]


def test_provider_info_names_the_commands() -> None:
    function = airflow_commands
    assert get_provider_info()["cli"] == [f"{function.__module__}.{function.__name__}"]


def test_airflow_has_the_same_commands() -> None:
    (group,) = airflow_commands()
    assert [command.name for command in group.subcommands] == [command.name for command in COMMANDS]


@pytest.mark.usefixtures("settings")
def test_a_command_exits_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    (group,) = airflow_commands()
    (show,) = [command for command in group.subcommands if command.name == "show"]
    parser = argparse.ArgumentParser()
    for argument in show.args:
        argument.add_to_parser(parser)
    with pytest.raises(SystemExit) as ended:
        show.func(parser.parse_args(["batch_x", "--json"]))
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("airflow siliconflow show: GET /batches/batch_x")


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run_a_command(create: Any, program: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *program, "show", create().id, "--json"], capture_output=True, text=True
    )
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "in_queue")
