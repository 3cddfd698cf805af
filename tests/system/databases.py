"""Databases for Airflow's metadata: a SQLite file, or a PostgreSQL server of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.emulators import free_ports

URL = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def migrated_sqlite(home: Path) -> Path:
    """Return a SQLite file with Airflow's tables; `home` is the Airflow home that it is made in."""
    _migrate(home)
    return home / "airflow.db"


@contextmanager
def migrated_postgresql(home: Path) -> Iterator[str]:
    """Give the URL of a database with Airflow's tables, on a server that runs until the end.

    Its programs are those that Debian's package installs; root starts them as the user `postgres`.
    """
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
    user = "postgres" if os.getuid() == 0 else None
    (port,) = free_ports(1)
    data = Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        if user is not None:
            shutil.chown(data, user)
        _run([programs / "initdb", "--pgdata", data, "--username", "airflow", "--auth", "trust"], data, user)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        control = [programs / "pg_ctl", "--pgdata", data, "--wait"]
        _run([*control, "--options", options, "--log", data / "log", "start"], data, user)
        try:
            url = f"postgresql+psycopg2://airflow@127.0.0.1:{port}/postgres"
            _migrate(home, url)
            yield url
        finally:
            _run([*control, "--mode", "immediate", "stop"], data, user)
    finally:
        shutil.rmtree(data)


def _run(command: list[str | Path], directory: Path, user: str | None) -> None:
    subprocess.run(command, cwd=directory, user=user, check=True, stdout=subprocess.DEVNULL)


def _migrate(home: Path, url: str | None = None) -> None:
    environment = os.environ | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    if url is not None:
        environment[URL] = url
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
