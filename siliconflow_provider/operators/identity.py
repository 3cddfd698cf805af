"""Which task instance this is, in words that every attempt of it shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def identity_parts(context: Context, deployment: str, submission_key: str | None) -> list[str]:
    """Return what identifies a task instance to the service: never its try number.

    :param deployment: the name of this Airflow where several share one account
    :param submission_key: the user's own word, for buying anew on purpose
    """
    ti = context["ti"]
    return [deployment, ti.dag_id, ti.task_id, ti.run_id, str(ti.map_index), submission_key or ""]


def run_parts(context: Context, deployment: str) -> list[str]:
    """Return what identifies the task instance's DAG run to the service."""
    ti = context["ti"]
    return [deployment, ti.dag_id, ti.run_id]


def identity_label(context: Context) -> str:
    """Return the task instance for people, as `dag/task/run/index`."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.run_id}/{ti.map_index}"
