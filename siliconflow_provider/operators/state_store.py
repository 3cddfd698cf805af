"""What a task has created, in Airflow's task state store: there from Airflow 3.3 on, and kept over tries."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from siliconflow_provider.batches import RETENTION, CreateRecord, MemoryRecords, Records

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

STATE_KEY = "siliconflow_creates"


def create_records_of(context: Context) -> Records:
    """Return where a task without a directory writes down what it creates.

    Below Airflow 3.3 nothing that a task writes survives its retry but what the service keeps.
    """
    store = context.get("task_state_store")
    return MemoryRecords() if store is None else StateStoreRecords(store)


class StateStoreRecords:
    """Records of one task instance, one value of its state store."""

    is_persistent = True

    def __init__(self, store: Any) -> None:
        self._store = store

    def read(self) -> list[CreateRecord]:
        """Return what all attempts have written."""
        import msgspec

        return msgspec.convert(self._store.get(STATE_KEY, default=[]), list[CreateRecord])

    def write(self, record: CreateRecord) -> None:
        """Write a record, in place of an earlier one with its name."""
        import msgspec

        others = [each for each in self.read() if each.name != record.name]
        self._store.set(STATE_KEY, msgspec.to_builtins([*others, record]), retention=RETENTION)
