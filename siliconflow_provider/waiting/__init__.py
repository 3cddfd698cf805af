"""When to poll a batch, when a wait is over, and how it ended. Functions of batches and `now`: nothing here acts.

In: batches as they were last seen. Out: pauses, log lines and `WaitEnd`s, which travel in trigger events.
Start reading at `batch_wait.py`.
"""

from __future__ import annotations

from siliconflow_provider.waiting.batch_wait import (
    GRACE,
    BatchWait,
    WaitEnd,
    deadline_of,
    describe_end,
    next_pause,
    poll,
    seconds_to_the_end,
    wait_ends,
)
from siliconflow_provider.waiting.events import from_event, to_event
from siliconflow_provider.waiting.list_polling import Progress, due_batches, is_worth_a_page, read_item, still_listed

__all__ = [
    "GRACE",
    "BatchWait",
    "Progress",
    "WaitEnd",
    "deadline_of",
    "describe_end",
    "due_batches",
    "from_event",
    "is_worth_a_page",
    "next_pause",
    "poll",
    "read_item",
    "seconds_to_the_end",
    "still_listed",
    "to_event",
    "wait_ends",
]
