"""Cancelling batches, whatever they have come to meanwhile."""

from __future__ import annotations

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import BadRequestError
from siliconflow_provider.api.models import Batch


def cancel_unless_over(client: SiliconFlowClient, batch_id: str) -> Batch:
    """Cancel a batch that still runs, and return it as it is then: being cancelled, or over however it ended.

    :raises SiliconFlowError: when the service refuses although the batch still runs
    """
    batch, _ = cancel(client, batch_id)
    return batch


def cancel(client: SiliconFlowClient, batch_id: str) -> tuple[Batch, bool]:
    """Do what `cancel_unless_over` does, and tell as well whether the batch still ran."""
    batch = client.get_batch(batch_id)
    if nothing_to_cancel(batch):
        return batch, batch.status == "cancelling"
    try:
        return client.cancel_batch(batch_id), True
    except BadRequestError:
        # The batch may have ended in the moment between the two requests.
        batch = client.get_batch(batch_id)
        if not nothing_to_cancel(batch):
            raise
        return batch, False


def nothing_to_cancel(batch: Batch) -> bool:
    """Whether there is nothing left to cancel."""
    return batch.is_terminal or batch.status == "cancelling"
