"""Which task instance this is, in words that every attempt of it shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def identity_parts(context: Context, deployment: str, submission_key: str | None) -> list[str]:
    """Return what identifies a task instance to the service: never its try number.

    :param deployment: the name of this Airflow where several share one account
    :param submission_key: the user's own word, for buying anew on purpose
    """
    ti = context["ti"]
    return [deployment, ti.dag_id, ti.task_id, ti.run_id, str(ti.map_index), submission_key or ""]


def identity_keys(context: Context, deployment: str, submission_key: str | None) -> dict[str, Any]:
    """Return the keys of a `Submission`.

    What was submitted before the connection got a `deployment` stays the task's: to name it buys nothing again.
    """
    from siliconflow_provider.batches import digest

    unnamed = digest(*identity_parts(context, "", submission_key)) if deployment else None
    return {"key": digest(*identity_parts(context, deployment, submission_key)), "key_without_deployment": unnamed}


def run_parts(context: Context, deployment: str) -> list[str]:
    """Return what identifies the task instance's DAG run to the service."""
    ti = context["ti"]
    return [deployment, ti.dag_id, ti.run_id]


def identity_label(context: Context) -> str:
    """Return the task instance for people, as `dag/task/run/index`."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.run_id}/{ti.map_index}"


def attempt_fields(context: Context, retries: int) -> dict[str, Any]:
    """Return what a `Submission` has to know of the attempt: whether a person has started it, or Airflow.

    Clearing a task that does not run sets `max_tries` to the number of its last try plus `retries`; an automatic retry
    leaves it. Clearing one of a run that is over also starts the run again.

    :param retries: of the task
    """
    import pendulum

    ti, dag_run = context["ti"], context.get("dag_run")
    started_at = None if dag_run is None else dag_run.start_date
    return {
        "max_tries": ti.max_tries,
        "is_first_try": ti.try_number == 1,
        "is_cleared_try": ti.try_number > 1 and ti.try_number == ti.max_tries - retries + 1,
        "run_started_at": None if started_at is None else pendulum.instance(started_at),
    }
