"""The crash matrix: `python -m tests.system.crash_matrix docs/crash-matrix.md`."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from tests.commit import tried_commit
from tests.system.components import WEB, Components
from tests.system.crash_points import JOB_POINTS, POINTS
from tests.system.crashes import JOB_REQUESTS, REQUESTS, ComponentKill, Crash, Outcome, TaskKill, add_dags, outcomes
from tests.system.databases import migrated_postgresql, migrated_sqlite
from tests.system.rest_api import AIRFLOW_3

INTRODUCTION = f"""# What a crash costs

`make crash-matrix` writes this page, with `AIRFLOW=2.11` the other section. Each row is one run of
`UploadFileOperator`, `CreateBatchOperator` and `DownloadResultsOperator` with {REQUESTS} requests, or of
`BatchInferenceOperator` (`job`) with {JOB_REQUESTS:,} of them in three parts, with `retries=3`, on real Airflow
components and an emulator of its own. One process is killed in it with SIGKILL by another, which
watches the emulator's request log and the files: it stops the task's process at the point (SIGSTOP), sees that it
has not gone further, and kills it. Nothing in the package knows of it.

- exit: what Airflow's log says of the task's process, or the system of the component's
- ended: the try of the killed task, or of `create` where a component was killed. A try that meets a dead api-server
  is failed by Airflow itself. An expired batch is not retried, so the next try must fail as well, and buy nothing
- files, batches: how many the emulator has taken; a second round is one more of each
- executed: how often it has executed any one request body at most; what failed in a first round is sent again
- rows: how many requests have their good row in `results.jsonl`
"""
HEAD = """| killed | waits | exit | ended | files | batches | executed | rows |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
WAITS = {"deferred": "deferred", "worker": "on the worker"}


def main(page: Path) -> int:
    """Run all and write the page; returns 1 when something is not as it must be."""
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="crash-matrix-"))
    found = _run(folder)
    seconds = time.monotonic() - started
    _write(page, _section(found, seconds))
    problems = [f"{each.title} ({each.wait}): {problem}" for each in found for problem in each.problems]
    if problems:
        print("\n".join([*problems, f"logs and all else is in {folder}"]))
        return 1
    shutil.rmtree(folder)
    print(f"{len(found)} crashes, nothing bought twice and nothing lost, in {seconds:.0f} s")
    return 0


def _run(folder: Path) -> list[Outcome]:
    home = folder / "migrated"
    with ExitStack() as stack:
        database = migrated_sqlite(home) if AIRFLOW_3 else stack.enter_context(migrated_postgresql(home))
        components = stack.enter_context(Components(folder / "airflow", database))
        tasks: list[Crash] = [
            TaskKill(components, point, wait, folder / "crashes")
            for point in (*POINTS, *JOB_POINTS)
            for wait in point.waits
        ]
        others: list[Crash] = [
            ComponentKill(components, each, folder / "crashes") for each in ("triggerer", "scheduler", WEB, "emulator")
        ]
        add_dags(components, [*tasks, *others])
        # A component is shared by all, so each of its deaths is a time of its own.
        return [*outcomes(components, tasks), *outcomes(components, others, side_by_side=1)]


def _section(found: list[Outcome], seconds: float) -> str:
    rows = "".join(
        f"| {each.title} | {WAITS[each.wait]} | {each.exit_signal} | {each.end} | {each.files} | {each.batches} "
        f"| {each.most_executions} | {each.rows} |\n"
        for each in found
    )
    database = "SQLite" if AIRFLOW_3 else "PostgreSQL"
    title = f"## Airflow {version('apache-airflow')}"
    run = f"{len(found)} crashes in {seconds:.0f} s, at {tried_commit()}, with the local executor and {database}."
    return f"{title}\n\n{run}\n\n{HEAD}{rows}"


def _write(page: Path, section: str) -> None:
    """Put the section in place of that of the same version, newest version first."""
    page.parent.mkdir(exist_ok=True)
    old = page.read_text() if page.exists() else ""
    sections = {each.splitlines()[0]: each for each in [*re.findall(r"^## .*?(?=^## |\Z)", old, re.M | re.S), section]}
    ordered = [sections[heading].strip() for heading in sorted(sections, reverse=True)]
    page.write_text("\n\n".join([INTRODUCTION.strip(), *ordered]) + "\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
