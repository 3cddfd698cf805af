"""Ask the Airflow of this environment what it makes of the wheel, which is installed here with what it requires.

Run with the Python of that environment; the source tree is out of reach.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

# What `airflow providers ...` must name, once.
LISTED = {
    "list": "airflow-provider-siliconflow",
    "hooks": "siliconflow_provider.hooks.siliconflow.SiliconFlowHook",
}


def listed(command: str) -> str:
    """Return the line in which `airflow providers <command>` names the provider."""
    airflow = [sys.executable, "-m", "airflow", "providers", command, "--output", "plain"]
    printed = subprocess.run(airflow, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [" ".join(line.split()) for line in printed.splitlines() if LISTED[command] in line]
    if len(lines) != 1:
        sys.exit(f"airflow providers {command} does not name {LISTED[command]} once:\n{printed}")
    return lines[0]


def import_all() -> int:
    """Import every module but the emulator's, which have an extra, and return how many there are."""
    package = importlib.import_module("siliconflow_provider")
    if not Path(package.__path__[0]).is_relative_to(sys.prefix):
        sys.exit(f"{package.__path__[0]} is not the installed wheel")
    found = [each.name for each in pkgutil.walk_packages(package.__path__, "siliconflow_provider.", onerror=print)]
    names = [name for name in found if not name.startswith("siliconflow_provider.emulator")]
    for name in names:
        importlib.import_module(name)
    return len(names)


def main() -> None:
    """Print what was found; end with the reason at the first thing that is amiss."""
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        os.environ.update(AIRFLOW_HOME=empty, PYTHONWARNINGS="ignore")
        subprocess.run([sys.executable, "-m", "pip", "check"], check=True)
        print(listed("list"), listed("hooks"), f"{import_all()} modules imported", sep="\n")


if __name__ == "__main__":
    main()
