"""What one Airflow makes of the installed wheel: `python -m tests.system.matrix_cell FOLDER`, as JSON.

Run with the Python of its environment, from a directory where the source of the package is out of reach.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import airflow_provider_siliconflow
from tests.examples import example_files
from tests.system.components import API_KEY, CONN_ID, Components
from tests.system.databases import migrated_sqlite
from tests.system.emulators import EmulatorProcess
from tests.system.rest_api import AIRFLOW_3

EXAMPLES = Path(airflow_provider_siliconflow.__file__).parent / "example_dags"
VERSIONS = ("apache-airflow", "apache-airflow-providers-common-compat")
DEFERRED = "example_siliconflow_nightly_eval"
AT_ONCE = ("--queue-seconds", "0", "--run-seconds", "0", "--finalize-seconds", "0")
NOT_AT_ONCE = ("--queue-seconds", "0.5", "--run-seconds", "10", "--finalize-seconds", "0")
SECONDS = 300
END = "how it ended: "
TEST = """
import importlib.util, sys, traceback

for path in sys.argv[2:]:
    name = path.rpartition("/")[2].removesuffix(".py")
    specification = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        end = str(getattr(module, name)().test().state).rpartition(".")[2].lower()
    except Exception as error:
        traceback.print_exc()
        end = type(error).__name__
    print(f"\\n{sys.argv[1]}{name} {end}", flush=True)
"""


def main(folder: Path) -> None:
    """Print versions, how each example ended, and how a deferral on real components did."""
    if not EXAMPLES.is_relative_to(sys.prefix):
        sys.exit(f"{EXAMPLES} is not that of an installed wheel")
    database = migrated_sqlite(folder / "migrated")
    found: dict[str, Any] = {name: version(name) for name in VERSIONS}
    found["python"] = ".".join(map(str, sys.version_info[:2]))
    found["examples"] = tested_examples(database, folder)
    found["deferral"] = deferral(database, folder / "components")
    print(json.dumps(found))


def tested_examples(database: Path, folder: Path) -> dict[str, str]:
    """Return how `dag.test()` of each example ended. What it printed is in `examples.log`."""
    home, log = folder / "examples", folder / "examples.log"
    home.mkdir()
    shutil.copy(database, home)
    paths = example_files(EXAMPLES)
    with EmulatorProcess(folder / "emulator", *AT_ONCE) as emulator, log.open("wb") as output:
        connection = {
            "conn_type": "siliconflow",
            "host": f"{emulator.origin}/v1",
            "password": API_KEY,
            "extra": {"deployment": "matrix"},
        }
        environment = os.environ | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(connection),
            "SILICONFLOW_EXAMPLE_OUTPUT": f"file://{folder}/results",
            "AIRFLOW_CONN_SILICONFLOW_EXAMPLE_WAREHOUSE": json.dumps(
                {"conn_type": "sqlite", "host": str(folder / "warehouse.sqlite")}
            ),
        }
        command = [sys.executable, "-c", TEST, END, *map(str, paths)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, env=environment, stdout=output, stderr=output, timeout=SECONDS * len(paths))
    lines = [line.removeprefix(END) for line in log.read_text().splitlines() if line.startswith(END)]
    return {path.stem: "no end" for path in paths} | dict(line.split() for line in lines)


def deferral(database: Path, home: Path) -> str:
    """Return how a run did whose task is deferred; its connection is in Airflow's database.

    :return: `success`, or the first line of what went wrong; all of it is in `deferral.log`
    """
    components = Components(home, database)
    (components.dags_folder / "example_dags").symlink_to(EXAMPLES)
    try:
        with components:
            add_connection(components)
            components.renew_emulator(*NOT_AT_ONCE)
            run = components.trigger_dag_run(DEFERRED)
            run.wait_for("success", SECONDS)
            create = run.task_instance("create")
            waits = [each for each in create.trigger_logs(create.try_number) if "is completed" in each]
            assert waits, "the triggerer has not seen the batch's end"
            assert create.try_number == 1, f"it took {create.try_number} tries"
            if AIRFLOW_3:
                assert run.run_id in components.api.page("/batches"), "the page of batches does not show the run"
    except Exception as error:
        home.with_name("deferral.log").write_text(str(error))
        return str(error).partition("\n")[0]
    return "success"


def add_connection(components: Components) -> None:
    """Put the connection that `airflow connections add` stores in place of the one that is there."""
    fields = {"type": "siliconflow", "host": components.emulator_url, "password": API_KEY}
    options = [f"--conn-{name}={value}" for name, value in fields.items()]
    for command in (["delete", CONN_ID], ["add", CONN_ID, *options]):
        airflow = [sys.executable, "-m", "airflow", "connections", *command]
        subprocess.run(airflow, env=components.environment, check=True, capture_output=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
