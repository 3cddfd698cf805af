"""The statuses of a batch."""

from __future__ import annotations

from typing import Literal

Status = Literal["in_queue", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]
OVER: frozenset[Status] = frozenset({"completed", "failed", "expired", "cancelled"})
