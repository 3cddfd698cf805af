"""Run the nightly eval end to end on this machine: the emulator, Airflow on SQLite, one DAG run.

Everything is kept in `.demo/`. The emulator lives in a thread of this process, so nothing outlives it.
"""

from __future__ import annotations

import json
import subprocess
import sys

from local_airflow import AIRFLOW, EMULATOR_DATA, environment, run_quietly

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions


def main() -> int:
    """Prepare Airflow's database, run the DAG, and return its exit status."""
    with Emulator(EmulatorOptions(data_dir=EMULATOR_DATA)) as emulator:
        settings = environment() | {
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.task.operators.siliconflow_provider=INFO "
            "siliconflow_provider=INFO",
            "AIRFLOW_CONN_SILICONFLOW_DEFAULT": json.dumps(emulator.airflow_connection),
        }
        print(f"The emulator answers on {emulator.base_url}; preparing Airflow's database", flush=True)
        run_quietly(settings, "db", "migrate")
        print("Running the DAG example_siliconflow_nightly_eval; its batch takes some 10 seconds", flush=True)
        return subprocess.run([AIRFLOW, "dags", "test", "example_siliconflow_nightly_eval"], env=settings).returncode


if __name__ == "__main__":
    sys.exit(main())
