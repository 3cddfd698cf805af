from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from siliconflow_provider.triggers.confirmation import has_task_ended

TASK = SimpleNamespace(dag_id="dag", task_id="group.create", run_id="run", map_index=-1)
MAPPED = SimpleNamespace(dag_id="dag", task_id="group.create", run_id="run", map_index=2)


def airflow_says(state: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace Airflow's database or its API. In the API, the name of a mapped task ends with its index."""
    if AIRFLOW_V_3_0_PLUS:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        def get_task_states(**asked: Any) -> dict[str, Any]:
            assert (asked["dag_id"], asked["task_ids"], asked["run_ids"]) == ("dag", ["group.create"], ["run"])
            index = asked["map_index"]
            name = "group.create" if index < 0 else f"group.create_{index}"
            return {"run": {name: state, "group.create_7": "failed"}} if state != "gone" else {}

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    else:
        from airflow.models.taskinstance import TaskInstance

        def get_task_instance(**asked: Any) -> Any:
            assert (asked["dag_id"], asked["task_id"], asked["run_id"]) == ("dag", "group.create", "run")
            assert asked["map_index"] in (-1, 2)
            return SimpleNamespace(state=state) if state != "gone" else None

        monkeypatch.setattr(TaskInstance, "get_task_instance", get_task_instance)


@pytest.mark.parametrize("task_instance", [TASK, MAPPED], ids=["alone", "mapped"])
@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("failed", True),
        ("success", True),
        ("skipped", True),
        ("deferred", False),
        ("running", False),
        ("scheduled", False),
        ("up_for_retry", False),
        ("restarting", False),
        (None, False),
        ("gone", False),
    ],
)
def test_only_final_states_have_ended(
    task_instance: Any, state: str | None, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow_says(state, monkeypatch)
    assert has_task_ended(task_instance) is ended
