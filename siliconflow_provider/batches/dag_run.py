"""Find the running batches of DAG runs by their metadata."""

from __future__ import annotations

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.listing import BatchLister
from siliconflow_provider.batches.metadata import AIRFLOW_RUN
from siliconflow_provider.batches.submission import is_digest, is_running


def find_running_by_dag_run(client: SiliconFlowClient, *run_keys: str) -> list[list[Batch]]:
    """Return the running batches of each DAG run.

    :param run_keys: `Submission.run_key` of each DAG run
    :return: one list of batches for each key
    :raises SiliconFlowError: if the list is incomplete
    """

    def is_of(batch: Batch, run_key: str) -> bool:
        return is_digest(batch.metadata.get(AIRFLOW_RUN), run_key)

    listing = BatchLister(client).search(lambda batch: any(is_of(batch, key) for key in run_keys), is_running)
    listing.raise_if_incomplete()
    running = list(filter(is_running, listing.batches))
    return [[batch for batch in running if is_of(batch, key)] for key in run_keys]
