"""Cancelling batches, whatever they have come to meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import BadRequestError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.submission import recent_batches


def cancel_unless_over(client: SiliconFlowClient, batch_id: str) -> Batch:
    """Cancel a batch that still runs, and return it as it is then: being cancelled, or over however it ended.

    :raises SiliconFlowError: when the service refuses although the batch still runs
    """
    batch = client.get_batch(batch_id)
    if _has_ended(batch):
        return batch
    try:
        return client.cancel_batch(batch_id)
    except BadRequestError:
        # The batch may have ended in the moment between the two requests.
        batch = client.get_batch(batch_id)
        if not _has_ended(batch):
            raise
        return batch


def running_batches_of_run(client: SiliconFlowClient, run: str) -> Iterator[Batch]:
    """Yield the batches that were submitted with this `Submission.run` and still run."""
    for item in recent_batches(client):
        if _has_ended(item):
            continue
        # Some list items come without metadata; the single batch has it.
        batch = item if item.metadata else client.get_batch(item.id)
        if batch.metadata.get("airflow_run") == run and not _has_ended(batch):
            yield batch


def _has_ended(batch: Batch) -> bool:
    return batch.is_terminal or batch.status == "cancelling"
