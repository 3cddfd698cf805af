"""Keep create records and progress of a task in Airflow's task state store (Airflow 3.3 and later).

The store outlives retries. Only a task's own process can write to it: up to Airflow 3.3, a trigger cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from siliconflow_provider.api.redaction import shown_error
from siliconflow_provider.batches import RETENTION, CreateRecord, MemoryRecords, Records

if TYPE_CHECKING:
    import pendulum
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.models import Batch

log = logging.getLogger(__name__)

STATE_KEY = "siliconflow_creates"
PROGRESS_KEY = "siliconflow_progress"


def create_records_of(context: Context) -> Records:
    """Return the create records of a task that has no output directory.

    Before Airflow 3.3 there is no store that outlives a retry, so the records are kept in memory only.
    """
    store = context.get("task_state_store")
    return MemoryRecords() if store is None else StateStoreRecords(store)


def write_progress(context: Context, batches: Sequence[Batch | None], now: pendulum.DateTime) -> None:
    """Write how far batches are, for people and other programs. A failure is only a warning.

    :param batches: the batches as last polled; None for each that was not seen yet
    :param now: the current time by the service's clock
    """
    from siliconflow_provider.waiting import progress_of

    store = context.get("task_state_store")
    if store is None or not batches:
        return
    value = {**progress_of(batches, now).to_json(), "as_of": now.to_iso8601_string()}
    try:
        store.set(PROGRESS_KEY, value, retention=RETENTION)
    except Exception as error:
        log.warning("could not write the progress to the task state store, going on without it: %s", shown_error(error))


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
