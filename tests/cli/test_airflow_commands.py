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


def run(name: str, *arguments: str) -> Any:
    """Run a command as Airflow does, and return its exit code."""
    (group,) = airflow_commands()
    (command,) = [command for command in group.subcommands if command.name == name]
    parser = argparse.ArgumentParser()
    for argument in command.args:
        argument.add_to_parser(parser)
    with pytest.raises(SystemExit) as ended:
        command.func(parser.parse_args(arguments))
    return ended.value.code


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--conn-id", "x"], 2), (["--base-url", "http://x"], 2)])
def test_the_default_connection_is_used(
    connection: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_X", '{"conn_type": "siliconflow"}')
    assert run("account", *arguments) == code


@pytest.mark.usefixtures("settings")
def test_a_key_goes_before_the_default_connection() -> None:
    assert run("account") == 0


@pytest.mark.usefixtures("settings")
def test_a_command_exits_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "batch_x", "--json") == 1
    assert capsys.readouterr().err.startswith("airflow siliconflow show: GET /batches/batch_x")


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run_a_command(create: Any, program: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *program, "show", create().id, "--json"], capture_output=True, text=True
    )
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "in_queue")
