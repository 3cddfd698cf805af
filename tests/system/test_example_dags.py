from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from tests.examples import example_files
from tests.system.components import Components
from tests.system.dag_runs import DagRun

EXAMPLES = [f"example_siliconflow_{each.stem}" for each in example_files()]
PLAIN = ("example_siliconflow_nightly_eval", "example_siliconflow_nightly_eval_one_task")


@pytest.fixture(scope="session")
def example_run(components: Components) -> Callable[[str], DagRun]:
    """Gives the run of an example, triggered when first asked for; those of the plain run go side by side."""
    run = functools.cache(components.trigger_dag_run)
    for dag_id in PLAIN:
        run(dag_id)
    return run


@pytest.mark.parametrize(
    "dag_id", [pytest.param(each, marks=[] if each in PLAIN else pytest.mark.slow) for each in EXAMPLES]
)
def test_every_example_succeeds_on_real_components(dag_id: str, example_run: Callable[[str], DagRun]) -> None:
    """A DAG is named for its file."""
    example_run(dag_id).wait_for("success")


def test_a_waiting_task_is_deferred_and_resumed(example_run: Callable[[str], DagRun]) -> None:
    run = example_run("example_siliconflow_nightly_eval")
    run.wait_for("success")
    create = run.task_instance("create")
    # Not on the first try for certain: Airflow can fail one by itself, where SQLite was locked for instance.
    assert create.xcom() == create.xcom("batch_id")
    assert create.trigger_logs(create.try_number)
    assert "240 of 240 requests answered" in create.log(create.try_number)
