"""Find the running batches of a DAG run, also those of tasks that were killed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.batches import digest, find_running_by_dag_run
from siliconflow_provider.exceptions import InvalidConnectionError
from siliconflow_provider.operators.identity import run_parts

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

log = logging.getLogger(__name__)


def find_batches_of_run(context: Context, hook: SiliconFlowHook, siliconflow_conn_id: str) -> list[Batch]:
    """Return the running batches of this DAG run.

    :raises InvalidConnectionError: if the connection has no `deployment`, so they could be another Airflow's
    """
    run_keys = [digest(*run_parts(context, deployment)) for deployment in (hook.deployment, "")]
    found, without_deployment = find_running_by_dag_run(hook.get_conn(), *run_keys)
    unclear_ids = first_names(batch.id for batch in without_deployment) or "none"
    if not hook.deployment:
        raise InvalidConnectionError(
            f"connection {siliconflow_conn_id!r} has no deployment, so nothing was cancelled: another Airflow "
            "on the same account may have a DAG run with the same id. Set a deployment in the connection's form, "
            'or as {"deployment": "production"} in its extra, with a different value in each Airflow; or give '
            f"batch_id. Running batches of a DAG run with this id: {unclear_ids}"
        )
    log.info("running batches of this DAG run: %s", first_names(batch.id for batch in found) or "none")
    _warn_of_earlier(context, found, hook.deployment)
    if without_deployment:
        log.warning(
            "not cancelled: %s. They belong to a DAG run with this id, but were submitted without a deployment, "
            "maybe by another Airflow. If they are yours, give their ids to CancelBatchOperator as batch_id",
            unclear_ids,
        )
    return found


def _warn_of_earlier(context: Context, batches: Sequence[Batch], deployment: str) -> None:
    """Warn of batches that were created before the DAG run started."""
    started_at = getattr(context.get("dag_run"), "start_date", None)
    for batch in batches:
        created_at = batch.timing.created_at
        # The service's times are whole seconds.
        if started_at and created_at and created_at.timestamp() < int(started_at.timestamp()):
            log.warning(
                "cancelling batch %s, created at %s, before this DAG run started at %s: either the run was cleared "
                "since, or the batch belongs to another Airflow on this account with the same deployment %r",
                batch.id, created_at, started_at, deployment,
            )  # fmt: skip
