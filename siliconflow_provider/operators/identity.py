"""Identify a task instance. The identity is the same for every attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context


def identity_parts(context: Context, deployment: str, submission_key: str | None) -> list[str]:
    """Return the texts that identify a task instance. The try number is not one of them.

    :param deployment: name of this Airflow installation, if several share one account
    :param submission_key: the task's `submission_key`; a new value resubmits everything
    """
    ti = context["ti"]
    return [deployment, ti.dag_id, ti.task_id, ti.run_id, str(ti.map_index), submission_key or ""]


def identity_keys(context: Context, deployment: str, submission_key: str | None) -> dict[str, Any]:
    """Return the fields `key` and `key_without_deployment` of a `Submission`.

    With the second key, the task still finds batches that it submitted before its connection had a `deployment`.
    """
    from siliconflow_provider.batches import digest

    unnamed = digest(*identity_parts(context, "", submission_key)) if deployment else None
    return {"key": digest(*identity_parts(context, deployment, submission_key)), "key_without_deployment": unnamed}


def run_parts(context: Context, deployment: str) -> list[str]:
    """Return the texts that identify the DAG run of the task instance."""
    ti = context["ti"]
    return [deployment, ti.dag_id, ti.run_id]


def identity_label(context: Context) -> str:
    """Return a readable name of the task instance: `dag/task/run/index`."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.run_id}/{ti.map_index}"


def attempt_fields(context: Context, retries: int) -> dict[str, Any]:
    """Return the fields of a `Submission` that tell a cleared task from an automatic retry.

    Clearing a task that is not running sets `max_tries` to its last try number plus `retries`; an automatic retry does
    not change it. If the DAG run has ended, clearing also restarts the run.

    :param retries: the task's `retries`
    """
    import pendulum

    ti, dag_run = context["ti"], context.get("dag_run")
    started_at = None if dag_run is None else dag_run.start_date
    return {
        "max_tries": ti.max_tries,
        "attempt": _attempt(ti.try_number, getattr(ti, "id", None), started_at),
        "is_first_try": ti.try_number == 1,
        "is_cleared_try": ti.try_number > 1 and ti.try_number == ti.max_tries - retries + 1,
        "run_started_at": None if started_at is None else pendulum.instance(started_at),
    }


def _attempt(try_number: int, ti_id: object, run_started_at: datetime | None) -> str | None:
    """Identify an attempt, also after a deferral; None if it is unknown.

    A run that is deleted and created again with the same id has the try numbers of the first one.

    :param ti_id: Airflow 3 gives each try another id; Airflow 2.11 has none
    """
    if ti_id is not None:
        return str(ti_id)
    return None if run_started_at is None else f"{run_started_at.isoformat()}/{try_number}"
