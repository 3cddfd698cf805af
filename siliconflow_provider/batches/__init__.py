"""Batches at the service: found again, created once, cancelled.

In: a `Submission`, which says whose a batch is and what it asks for. Out: the one `Batch` of that submission.
Start reading at `creation.py`; `finder.py` finds batches by the service's list and by written records.
"""

from __future__ import annotations

from siliconflow_provider.batches.cancellation import cancel, cancel_unless_over
from siliconflow_provider.batches.content import content_in_name, content_of, file_name
from siliconflow_provider.batches.creation import (
    cancel_younger,
    create,
    is_settled,
    older_batch,
    running_batches_of_runs,
    submit,
    wait_for_list,
)
from siliconflow_provider.batches.finder import BatchFinder, OwnBatches, UnsafeSubmitError
from siliconflow_provider.batches.listing import RETENTION
from siliconflow_provider.batches.metadata import AIRFLOW_INPUT, AIRFLOW_KEY, AIRFLOW_ROUND, RESERVED_PREFIX
from siliconflow_provider.batches.records import CreateRecord, FileRecords, MemoryRecords, Records
from siliconflow_provider.batches.submission import SHORTEST_DIGEST, Submission, batch_to_collect, digest

__all__ = [
    "AIRFLOW_INPUT",
    "AIRFLOW_KEY",
    "AIRFLOW_ROUND",
    "RESERVED_PREFIX",
    "RETENTION",
    "SHORTEST_DIGEST",
    "BatchFinder",
    "CreateRecord",
    "FileRecords",
    "MemoryRecords",
    "OwnBatches",
    "Records",
    "Submission",
    "UnsafeSubmitError",
    "batch_to_collect",
    "cancel",
    "cancel_unless_over",
    "cancel_younger",
    "content_in_name",
    "content_of",
    "create",
    "digest",
    "file_name",
    "is_settled",
    "older_batch",
    "running_batches_of_runs",
    "submit",
    "wait_for_list",
]
