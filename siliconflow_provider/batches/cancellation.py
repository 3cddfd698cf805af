"""Cancel batches that may have ended in the meantime."""

from __future__ import annotations

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import BadRequestError
from siliconflow_provider.api.models import Batch


def cancel_unless_over(client: SiliconFlowClient, batch_id: str) -> Batch:
    """Cancel a batch unless it has ended. Return its new state: being cancelled, or ended with any status.

    :raises SiliconFlowError: if the service rejects the request although the batch is still running
    """
    batch, _ = cancel(client, batch_id)
    return batch


def cancel(client: SiliconFlowClient, batch_id: str) -> tuple[Batch, bool]:
    """Cancel a batch unless it has ended. Return its new state, and True if it was still running or cancelling."""
    batch = client.get_batch(batch_id)
    if nothing_to_cancel(batch):
        return batch, batch.status == "cancelling"
    try:
        return client.cancel_batch(batch_id), True
    except BadRequestError:
        # The batch may have ended between the two requests.
        batch = client.get_batch(batch_id)
        if not nothing_to_cancel(batch):
            raise
        return batch, False


def nothing_to_cancel(batch: Batch) -> bool:
    """Return True if a batch has ended or is already being cancelled."""
    return batch.is_terminal or batch.status == "cancelling"
