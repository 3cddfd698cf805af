"""Start Airflow's UI with the example DAGs, and the emulator behind them, to look and click.

Everything is kept in `.demo/`. Ctrl-C stops everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from urllib.parse import urlsplit

import requests
from local_airflow import AIRFLOW, DEMO, EMULATOR_DATA, environment, run_quietly

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

WANTED_PORT = 8080  # that Airflow's users know; another when it is taken
LOG = DEMO / "standalone.log"
START_SECONDS, STOP_SECONDS = 180, 10
DAG = "example_siliconflow_nightly_eval"
PRICES = {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}}
TOUR = """
  {url}                    no login; Ctrl-C here stops everything

  Dags > {dag}  it has been running since the start; Trigger runs it again
    > create > Logs                        the batch: created, awaited in the triggerer, completed
    > score > Logs                         the table of accuracies
  Browse > SiliconFlow batches             all batches of the emulator's account
  Admin > Connections                      siliconflow_default: edit it to see its form, test it with the button beside

The emulator answers on {emulator}; {data} has its requests.log.
Airflow's own log is {log}.
"""


def main() -> int:
    """Start everything, say where it is, and stay until Ctrl-C."""
    if version("apache-airflow") < "3":
        sys.exit("make ui needs Airflow 3: leave AIRFLOW=2.11 out")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    url = f"http://127.0.0.1:{_free_port(WANTED_PORT, 0)}"
    options = EmulatorOptions(data_dir=EMULATOR_DATA, run_seconds=20)
    with contextlib.suppress(KeyboardInterrupt), Emulator(options) as emulator:
        settings = _settings(url)
        print("Preparing Airflow's database", flush=True)
        run_quietly(settings, "db", "migrate")
        _replace_connection(settings, emulator)
        print("Starting Airflow, which takes about half a minute", flush=True)
        with _standalone(settings) as airflow:
            _wait_until(lambda: _is_healthy(url) and _is_unpaused(url), airflow)
            print(TOUR.format(url=url, dag=DAG, emulator=emulator.base_url, data=EMULATOR_DATA, log=LOG), flush=True)
            airflow.wait()
    return 0


def _settings(url: str) -> dict[str, str]:
    return environment() | {
        # Without a login, this is for nobody else.
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port(0)),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(_free_port(0)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    }


def _replace_connection(settings: dict[str, str], emulator: Emulator) -> None:
    """Keep the connection in Airflow's database, where its form shows it; the emulator's port is another each time."""
    conn_id = "siliconflow_default"
    subprocess.run([AIRFLOW, "connections", "delete", conn_id], env=settings, capture_output=True)
    fields = {
        "type": "siliconflow",
        "host": emulator.base_url,
        # Without a port in this field, the UI of Airflow 3.3 tests a stored connection only with its key typed again.
        "port": urlsplit(emulator.base_url).port,
        "password": emulator.api_key,
        "extra": json.dumps({"prices": PRICES}),
    }
    run_quietly(settings, "connections", "add", conn_id, *(f"--conn-{name}={value}" for name, value in fields.items()))


@contextlib.contextmanager
def _standalone(settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `airflow standalone`; all its processes are gone in the end."""
    with LOG.open("wb") as log:
        airflow = subprocess.Popen(
            [AIRFLOW, "standalone"], env=settings, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield airflow
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # impatience must not leave processes behind
        print("Stopping", flush=True)
        airflow.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            airflow.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(airflow.pid, signal.SIGKILL)
        airflow.wait()


def _wait_until(is_started: Callable[[], bool], airflow: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_started():
        if airflow.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"Airflow did not start; {LOG} ends with:\n{LOG.read_text()[-3000:]}")
        time.sleep(0.5)


def _is_healthy(url: str) -> bool:
    try:
        health = requests.get(f"{url}/api/v2/monitor/health", timeout=10).json()
    except requests.RequestException:
        return False
    return all(each["status"] == "healthy" for each in health.values())


def _is_unpaused(url: str) -> bool:
    """Unpause the DAG; False as long as Airflow has not read it."""
    token = requests.get(f"{url}/auth/token", timeout=10).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    return requests.patch(f"{url}/api/v2/dags/{DAG}", json={"is_paused": False}, headers=headers, timeout=10).ok


def _free_port(*wanted: int) -> int:
    """The first of these ports that is free; 0 stands for any."""
    for port in wanted:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as listening:
            return listening.getsockname()[1]
    sys.exit("no port is free on 127.0.0.1")


if __name__ == "__main__":
    sys.exit(main())
