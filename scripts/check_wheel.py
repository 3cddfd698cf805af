"""Ask the Airflow of this environment what it makes of the wheel, which is installed here with what it requires.

Run with the Python of that environment; the source tree is out of reach. Then mypy, which is named on the command
line, checks a user's DAG against it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

DISTRIBUTION = "airflow-provider-siliconflow"
HOOK = "siliconflow_provider.hooks.siliconflow.SiliconFlowHook"
WITH_EXTRA = ("siliconflow_provider.emulator", "siliconflow_provider.outputs.arrow_types")
# They need the API server of Airflow 3.
PAGES = "siliconflow_provider.plugins."
PLUGIN = f"{PAGES}airflow_plugin"
# Right but for its last line.
DAG = """
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import read_results

operator = BatchInferenceOperator(task_id="ask", input_path="a.jsonl", output_path="out", max_rounds=3)
texts: list[str] = [row.content for row in read_results("out") if row.content]
BatchInferenceOperator(task_id="ask", input_path="a.jsonl", output_path="out", max_rounds="three")
"""
MYPY = "[mypy]\nstrict = True\n[mypy-airflow.*]\nfollow_imports = skip\n"
# What Airflow 3.3 makes of `load_examples`; those before know no examples of providers.
EXAMPLES = """
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag

for bundle in DagBundlesManager().get_all_dag_bundles():
    if bundle.name.startswith("airflow-provider-siliconflow"):
        bag = DagBag(bundle.path)
        print("examples:", *sorted(bag.dags), bag.import_errors or "")
"""


def listed() -> str:
    """Return what `airflow providers list` and `hooks` show of the provider, without a start of Airflow for each."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    # Airflow 3.3 recommends a class that 2.11 does not have.
    with warnings.catch_warnings(action="ignore"):
        provider, hook = manager.providers.get(DISTRIBUTION), manager.hooks.get("siliconflow")
    if provider is None or hook is None or hook.hook_class_name != HOOK:
        sys.exit(f"Airflow does not list {DISTRIBUTION} with {HOOK}: {provider}, {hook}")
    return f"{DISTRIBUTION} {provider.version}\n{hook.hook_class_name}"


def import_all() -> int:
    """Import every module but those that need an extra or a later Airflow, and return how many there are."""
    package = importlib.import_module("siliconflow_provider")
    if not Path(package.__path__[0]).is_relative_to(sys.prefix):
        sys.exit(f"{package.__path__[0]} is not the installed wheel")
    found = [each.name for each in pkgutil.walk_packages(package.__path__, "siliconflow_provider.", onerror=print)]
    left_out = WITH_EXTRA if version("apache-airflow") >= "3" else (*WITH_EXTRA, PAGES)
    names = [name for name in found if not name.startswith(left_out) or name == PLUGIN]
    for name in names:
        importlib.import_module(name)
    return len(names)


def check_types(mypy: str) -> None:
    """End with what mypy says of a user's DAG, unless that is the one error in it."""
    Path("dag.py").write_text(DAG)
    Path("mypy.ini").write_text(MYPY)
    # The cache spares the next run the types of everything that is required.
    command = [mypy, "--cache-dir", f"{sys.prefix}/mypy-cache", "--python-executable", sys.executable, "dag.py"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    errors = [line for line in printed.splitlines() if ": error:" in line]
    last = len(DAG.splitlines())
    if len(errors) != 1 or not errors[0].startswith(f"dag.py:{last}: ") or "[arg-type]" not in errors[0]:
        sys.exit(f"mypy does not find the one error in the last line of a user's DAG:\n{printed}")


def examples() -> str:
    """Return the example DAGs that Airflow finds; end where it logs an error, or finds none on 3.3."""
    if tuple(map(int, version("apache-airflow").split(".")[:2])) < (3, 3):
        return "examples: not looked for before Airflow 3.3"
    environment = os.environ | {"AIRFLOW__CORE__LOAD_EXAMPLES": "True"}
    done = subprocess.run([sys.executable, "-c", EXAMPLES], env=environment, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("examples:")]
    if done.returncode or "[error" in done.stdout + done.stderr or not found or "example_siliconflow" not in found[0]:
        sys.exit(f"Airflow does not find the example DAGs without an error:\n{done.stdout}{done.stderr}")
    return found[0]


def main(mypy: str) -> None:
    """Print what was found; end with the reason at the first thing that is amiss."""
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        os.environ.update(AIRFLOW_HOME=empty, PYTHONWARNINGS="ignore")
        subprocess.run([sys.executable, "-m", "pip", "check"], check=True)
        print(listed(), f"{import_all()} modules imported", examples(), sep="\n")
        check_types(mypy)
        print("types: mypy finds the error in a user's DAG")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).absolute()))
