"""Keep a task's create records in Airflow's task state store (Airflow 3.3 and later), which outlives retries."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from siliconflow_provider.batches import RETENTION, CreateRecord, MemoryRecords, Records

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

STATE_KEY = "siliconflow_creates"


def create_records_of(context: Context) -> Records:
    """Return the create records of a task that has no output directory.

    Before Airflow 3.3 there is no store that outlives a retry, so the records are kept in memory only.
    """
    store = context.get("task_state_store")
    return MemoryRecords() if store is None else StateStoreRecords(store)


class StateStoreRecords:
    """Create records of one task instance, stored as one value in its state store."""

    is_persistent = True

    def __init__(self, store: Any) -> None:
        self._store = store

    def read(self) -> list[CreateRecord]:
        """Return the records of all attempts."""
        import msgspec

        return msgspec.convert(self._store.get(STATE_KEY, default=[]), list[CreateRecord])

    def write(self, record: CreateRecord) -> None:
        """Write a record. It replaces an earlier record of the same name."""
        import msgspec

        others = [other for other in self.read() if other.name != record.name]
        self._store.set(STATE_KEY, msgspec.to_builtins([*others, record]), retention=RETENTION)
