"""Tell what a batch of the service may be to a job."""

from __future__ import annotations

from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import sha256_in_name


def may_belong_to_job(batch: Batch) -> bool:
    """Return True if a listed batch without metadata may belong to a job: its file's name holds a SHA-256."""
    return batch.file_name is None or sha256_in_name(batch.file_name) is not None


def may_be_billed(batch: Batch) -> bool:
    """Return True if a batch was billed, or may be."""
    if not batch.is_terminal:
        return True
    counts = batch.request_counts
    return bool(counts.completed) if counts is not None else batch.final_status == "completed"
