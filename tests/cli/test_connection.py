"""The client of a command."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.emulator.server import Emulator


def test_without_key_both_ways_are_named(run: Any) -> None:
    printed = run("account")
    assert (printed.code, printed.out) == (2, "")
    assert "give a connection, such as --conn-id siliconflow_default, or set SILICONFLOW_API_KEY" in printed.err


@pytest.mark.usefixtures("settings")
def test_an_option_replaces_the_variable(run: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILICONFLOW_BASE_URL", "http://127.0.0.1:1/v1")
    # A bare host gets /v1, as in a connection.
    assert run("account", "--base-url", emulator.base_url.removesuffix("/v1")).code == 0


@pytest.mark.usefixtures("settings")
def test_errors_name_the_setting_of_the_url(run: Any, emulator: Emulator) -> None:
    url = emulator.base_url.replace("http://", "https://")
    assert run("account", "--base-url", url).err.endswith("write http:// in the base URL of --base-url\n")
    assert run("show", "batch_x").err.count("account of the API key of SILICONFLOW_API_KEY;") == 1


# Airflow looks for unknown connections in its database.
@pytest.mark.usefixtures("settings", "dags_folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-url", "http://user:secret@x"], "base_url for x has credentials, a query or a fragment in it"),
        (["--base-url", "http://[x"], "is not a URL"),
        (["--conn-id", "c", "--base-url", "http://x"], "give either --conn-id, whose connection has a base URL, or"),
        (["--conn-id", "unknown"], "connection 'unknown' does not exist: create it with type siliconflow"),
        (["--conn-id", "broken"], "connection 'broken' does not exist"),
        (["--conn-id", "keyless"], "connection 'keyless' has no password: set the SiliconFlow API key there"),
    ],
)
def test_unusable_connections_end_with_two(
    run: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_KEYLESS", json.dumps({"conn_type": "siliconflow"}))
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", '{"password": "sk-abcdefgh')
    printed = run("account", *arguments)
    assert (printed.code, printed.out) == (2, "")
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_connection_is_used(run: Any, connection: str, emulator: Emulator) -> None:
    before = dict(os.environ)
    printed = run("account", "--conn-id", connection, "--json")
    assert dict(os.environ) == before
    assert printed.json["site"] == emulator.base_url.split("/")[2]
    assert printed.err == ""


def test_a_stored_connection_is_read(migrated_database: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Outside of tasks, Airflow 3 reads its database only in processes that say what they are."""
    shutil.copy(migrated_database, tmp_path / "airflow.db")
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as database:
        row = ("stored", "siliconflow", emulator.base_url, emulator.api_key, False, False)
        names = "conn_id, conn_type, host, password, is_encrypted, is_extra_encrypted"
        database.execute(f"INSERT INTO connection ({names}) VALUES (?, ?, ?, ?, ?, ?)", row)
        database.commit()
    done = subprocess.run(
        [sys.executable, "-m", "siliconflow_provider", "account", "--conn-id", "stored", "--json"],
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "normal"
