"""Run the nightly eval end to end on this machine: the emulator, Airflow on SQLite, one DAG run.

Everything is kept in `.demo/`. The emulator lives in a thread of this process, so nothing outlives it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
AIRFLOW = Path(sys.executable).with_name("airflow")


def environment(emulator: Emulator) -> dict[str, str]:
    """Return the settings of an Airflow that knows the example DAGs and the emulator."""
    return {
        **os.environ,
        "AIRFLOW_HOME": str(DEMO / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.task.operators.siliconflow_provider=INFO "
        "siliconflow_provider=INFO",
        "AIRFLOW_CONN_SILICONFLOW_DEFAULT": json.dumps(emulator.airflow_connection),
        "SILICONFLOW_EXAMPLE_OUTPUT": f"file://{DEMO}/results",
        "PYTHONWARNINGS": "ignore",
    }


def main() -> int:
    """Prepare Airflow's database, run the DAG, and return its exit status."""
    DEMO.mkdir(exist_ok=True)
    with Emulator(EmulatorOptions(data_dir=DEMO / "emulator")) as emulator:
        settings = environment(emulator)
        print(f"The emulator answers on {emulator.base_url}; preparing Airflow's database", flush=True)
        migrated = subprocess.run([AIRFLOW, "db", "migrate"], env=settings, capture_output=True, text=True)
        if migrated.returncode:
            print(migrated.stdout + migrated.stderr, file=sys.stderr)
            return migrated.returncode
        print("Running the DAG nightly_eval; its batch takes some 10 seconds", flush=True)
        return subprocess.run([AIRFLOW, "dags", "test", "nightly_eval"], env=settings).returncode


if __name__ == "__main__":
    sys.exit(main())
