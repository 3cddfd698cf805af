"""Ask Airflow why a trigger was stopped: only Airflow knows if a user ended the task."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

ENDED = ("failed", "success", "skipped")


def has_task_ended(task_instance: Any) -> bool:
    """Return True if the task instance has ended. Asks Airflow, so it blocks.

    Airflow stops a trigger that has not fired if a user marks its task, but also if the task is cleared, its run is
    deleted, or another triggerer takes the trigger over because this one stalled. In all cases but the first, the task
    continues elsewhere, or its state is unknown.
    """
    return _state_of(task_instance) in ENDED


def _state_of(ti: Any) -> str | None:
    if AIRFLOW_V_3_0_PLUS:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        states = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
        state = states.get(ti.run_id, {}).get(name)
    else:
        from airflow.models.taskinstance import TaskInstance

        found = TaskInstance.get_task_instance(
            dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index
        )
        state = found and found.state
    return None if state is None else str(state)
