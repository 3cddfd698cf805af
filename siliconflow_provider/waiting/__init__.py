"""Decide when to poll a batch, when a wait ends, and with which outcome. No I/O: functions of batches and `now`.

Input: batches as last polled. Output: pauses, log lines, and `WaitEnd`s, which trigger events contain.
Start reading at `batch_wait.py`.
"""

from __future__ import annotations

from siliconflow_provider.waiting.batch_search import BatchSearch
from siliconflow_provider.waiting.batch_wait import (
    GRACE_AFTER_EXPIRY,
    BatchWait,
    WaitEnd,
    deadline_of,
    describe_end,
    next_pause,
    poll,
    seconds_until_all_end,
    wait_ends,
)
from siliconflow_provider.waiting.events import from_event, to_event
from siliconflow_provider.waiting.list_polling import (
    batch_from_list_item,
    count_on_later_pages,
    due_batches,
    is_page_worthwhile,
)
from siliconflow_provider.waiting.progress import ProgressLog, progress_of

__all__ = [
    "GRACE_AFTER_EXPIRY",
    "BatchSearch",
    "BatchWait",
    "ProgressLog",
    "WaitEnd",
    "batch_from_list_item",
    "count_on_later_pages",
    "deadline_of",
    "describe_end",
    "due_batches",
    "from_event",
    "is_page_worthwhile",
    "next_pause",
    "poll",
    "progress_of",
    "seconds_until_all_end",
    "to_event",
    "wait_ends",
]
