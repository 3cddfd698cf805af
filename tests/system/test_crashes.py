"""A sample of the crash matrix, which `make crash-matrix` runs as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.components import Components
from tests.system.crash_points import POINTS
from tests.system.crashes import Crash, TaskKill, add_dags, outcomes
from tests.system.rest_api import AIRFLOW_3

# Airflow 2 runs one task at a time on SQLite, which takes minutes.
pytestmark = [] if AIRFLOW_3 else [pytest.mark.slow]

SAMPLE = {("before_answer", "worker"), ("after_wait", "deferred")}


def test_a_task_killed_with_sigkill_buys_nothing_twice_and_loses_no_row(components: Components, tmp_path: Path) -> None:
    crashes: list[Crash] = [
        TaskKill(components, point, wait, tmp_path)
        for point in POINTS
        for wait in point.waits
        if (point.name, wait) in SAMPLE
    ]
    add_dags(components, crashes)
    assert [each.problems for each in outcomes(components, crashes)] == [()] * len(SAMPLE)
