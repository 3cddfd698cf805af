"""Find, create and cancel batches at the service. Each submission gets one batch.

Input: a `Submission`, which identifies the submitter and the requests. Output: the `Batch` of that submission.
Start reading at `creation.py`; `finder.py` finds batches in the service's list and in the create records.
"""

from __future__ import annotations

from siliconflow_provider.batches.active_limit import is_active_limit
from siliconflow_provider.batches.cancellation import cancel, cancel_unless_over
from siliconflow_provider.batches.content import file_name, sha256_in_name, sha256_of_file
from siliconflow_provider.batches.creation import create, has_list_caught_up, submit, wait_for_list
from siliconflow_provider.batches.dag_run import find_running_by_dag_run
from siliconflow_provider.batches.duplicates import cancel_duplicates, find_and_cancel_duplicates
from siliconflow_provider.batches.finder import BatchFinder, FoundBatches, UnsafeSubmitError
from siliconflow_provider.batches.listing import RETENTION
from siliconflow_provider.batches.metadata import (
    AIRFLOW_INPUT,
    AIRFLOW_KEY,
    AIRFLOW_ROUND,
    AIRFLOW_RUN,
    AIRFLOW_TASK,
    RESERVED_PREFIX,
)
from siliconflow_provider.batches.records import CreateRecord, FileRecords, MemoryRecords, Records
from siliconflow_provider.batches.submission import (
    SHORTEST_DIGEST,
    Submission,
    batch_to_collect,
    digest,
    is_digest,
    is_running,
)

__all__ = [
    "AIRFLOW_INPUT",
    "AIRFLOW_KEY",
    "AIRFLOW_ROUND",
    "AIRFLOW_RUN",
    "AIRFLOW_TASK",
    "RESERVED_PREFIX",
    "RETENTION",
    "SHORTEST_DIGEST",
    "BatchFinder",
    "CreateRecord",
    "FileRecords",
    "FoundBatches",
    "MemoryRecords",
    "Records",
    "Submission",
    "UnsafeSubmitError",
    "batch_to_collect",
    "cancel",
    "cancel_duplicates",
    "cancel_unless_over",
    "create",
    "digest",
    "file_name",
    "find_and_cancel_duplicates",
    "find_running_by_dag_run",
    "has_list_caught_up",
    "is_active_limit",
    "is_digest",
    "is_running",
    "sha256_in_name",
    "sha256_of_file",
    "submit",
    "wait_for_list",
]
