"""The matrix of Airflow versions: `python -m tests.system.matrix docs/matrix.md WHEEL PINS...`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
EXAMPLES_NEED = ("apache-airflow-providers-common-sql", "apache-airflow-providers-sqlite")
VERSIONS = ("apache-airflow", "python", "apache-airflow-providers-common-compat")
FAILED = "**failed**"
SIDE_BY_SIDE = 3  # each waits more than it works
PAGE = """# Which Airflow it was tried on

`make matrix` writes this page. Into each environment goes the built wheel, with the pins of `constraints/`, which are
of the time of that Airflow. There

- examples: each of `example_dags/` runs with `dag.test()` against the emulator
- deferral: `nightly_eval` runs on a real scheduler, dag-processor, triggerer and api-server, with a connection that
  `airflow connections add` has stored in the database; its task is deferred and ends on its first try

airflow-provider-siliconflow {version}, {day}:

| pins | Airflow | Python | common-compat | examples | deferral |
| --- | --- | --- | --- | --- | --- |
{rows}
"""


def main(page: Path, wheel: Path, names: list[str]) -> int:
    """Run each version's cell, write the page, and return 1 when something has failed."""
    folder = Path(tempfile.mkdtemp(prefix="matrix-"))

    def shown(name: str) -> str:
        found = row(name, *cell(name, wheel, folder / name))
        print(found, flush=True)
        return found

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        rows = list(pool.map(shown, names))
    version, day = wheel.name.split("-")[1], datetime.now(UTC).date().isoformat()
    page.write_text(PAGE.format(version=version, day=day, rows="\n".join(rows)))
    if FAILED not in "".join(rows):
        return 0
    print(f"Something has failed; logs and all else is in {folder}")
    return 1


def cell(name: str, wheel: Path, folder: Path) -> tuple[dict[str, Any], str]:
    """Return what a version's cell has found, or what it failed with."""
    environment = ROOT / f".venv-matrix-{name}"
    install = ["scripts/environment.sh", environment.name, name, f"{wheel}[arrow,emulator]", *EXAMPLES_NEED]
    done = subprocess.run(install, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        return {}, f"not installed: {done.stderr}"
    # The tests are seen from there, and the package's source is not.
    seen = folder / "seen"
    seen.mkdir(parents=True)
    (seen / "tests").symlink_to(ROOT / "tests")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(environment / "bin" / "python"), "-m", "tests.system.matrix_cell", str(folder)]
    done = subprocess.run(command, cwd=seen, env=variables, capture_output=True, text=True)
    if done.returncode:
        return {}, f"did not run: {done.stderr}"
    return json.loads(done.stdout.splitlines()[-1]), ""


def row(name: str, found: dict[str, Any], error: str) -> str:
    """Return a line of the table."""
    if error:
        cells = [name, "", "", "", FAILED, " ".join(error.split())[-300:]]
    else:
        bad = "".join(f"; {example}: {end}" for example, end in found["examples"].items() if end != "success")
        examples = f"{FAILED}{bad}" if bad else f"{len(found['examples'])} succeed"
        deferral = "succeeds" if found["deferral"] == "success" else f"{FAILED}: {found['deferral']}"
        cells = [name, *(found[each] for each in VERSIONS), examples, deferral]
    return f"| {' | '.join(each.replace('|', '/') for each in cells)} |"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
