"""An Airflow on this machine, in `.demo/`, that knows the example DAGs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
AIRFLOW = Path(sys.executable).with_name("airflow")
EMULATOR_DATA = DEMO / "emulator"


def environment() -> dict[str, str]:
    """Return the settings with which each `airflow` command is to be called."""
    DEMO.mkdir(exist_ok=True)
    return {
        **os.environ,
        # Airflow calls `airflow` by its name.
        "PATH": f"{AIRFLOW.parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(DEMO / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        "SILICONFLOW_EXAMPLE_OUTPUT": f"file://{DEMO}/results",
        "PYTHONWARNINGS": "ignore",
    }


def run_quietly(settings: dict[str, str], *arguments: str) -> None:
    """Run an `airflow` command whose output matters only when it fails.

    :raises SystemExit: with its output, when it fails
    """
    done = subprocess.run([AIRFLOW, *arguments], env=settings, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"airflow {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
