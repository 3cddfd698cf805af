"""Trigger that updates assets when batches end, whoever submitted them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # before Airflow 3.0
    BaseEventTrigger = BaseTrigger  # type: ignore[assignment, misc]

from siliconflow_provider.api.redaction import shown_error
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from siliconflow_provider.api.models import Batch

FINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
SHORTEST_INTERVAL = 10.0
# By then the triggerer has stored the events: a state that is stored before them would lose them in a crash.
SECONDS_UNTIL_STORED = 5.0
STORE_TIMEOUT = 60.0
PAUSES_OF_READ = (1.0, 10.0, 60.0)


class BatchEventTrigger(BaseEventTrigger):
    """Fire an event for each batch that ends. Use it in an `AssetWatcher`. Needs Airflow 3.0.

    All triggers of a connection share one list of batches. Airflow 3.3 keeps the trigger's state, so it finds batches
    that end while no triggerer is running. On earlier versions, each start of the trigger begins without state.

    :param metadata: pairs that the batch has been submitted with, as a dict or a list of pairs; by default all batches
        of the account count
    :param statuses: those of `completed`, `failed`, `expired` and `cancelled` that count
    :param siliconflow_conn_id: id of the Airflow connection
    :param poll_interval: seconds between two lists, at least 10; long lists are read less often
    :param lookback: seconds before the first start; batches that ended in that time count too. Before Airflow 3.3, it
        applies to each start
    """

    asset_state_store: Any = None  # Airflow 3.3 sets it

    def __init__(
        self,
        metadata: Mapping[str, str] | Sequence[Sequence[str]] | None = None,
        statuses: Sequence[str] = FINAL_STATUSES,
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = 60.0,
        lookback: float = 0.0,
    ) -> None:
        # A triggerer survives a TypeError of a trigger's constructor, but no other error.
        if BaseEventTrigger is BaseTrigger:
            raise TypeError(
                "BatchEventTrigger needs Airflow 3.0 or later, which has asset watchers. Before that, wait for a known "
                "batch with BatchSensor"
            )
        super().__init__()
        self.metadata = _as_texts(metadata or {})
        self.statuses = list(statuses)
        self.siliconflow_conn_id = siliconflow_conn_id
        self.poll_interval = poll_interval
        self.lookback = lookback
        if not self.statuses or isinstance(statuses, str) or not set(self.statuses) <= set(FINAL_STATUSES):
            raise TypeError(f"statuses is {statuses!r}: give a list of some of {', '.join(FINAL_STATUSES)}")
        for name, least in (("poll_interval", SHORTEST_INTERVAL), ("lookback", 0.0)):
            seconds = getattr(self, name)
            if not (isinstance(seconds, (int, float)) and seconds >= least):
                raise TypeError(f"{name} is {seconds!r}: give seconds, at least {least:g}")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        return (
            "siliconflow_provider.triggers.events.BatchEventTrigger",
            {
                # Airflow 3.2 gives a mapping back in another form.
                "metadata": [list(pair) for pair in self.metadata.items()],
                "statuses": self.statuses,
                "siliconflow_conn_id": self.siliconflow_conn_id,
                "poll_interval": self.poll_interval,
                "lookback": self.lookback,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each batch that ends. Does not return."""
        from siliconflow_provider.api import clock
        from siliconflow_provider.triggers.watcher import searching
        from siliconflow_provider.waiting import BatchSearch

        started_at = clock.now().timestamp()
        search = BatchSearch(self.metadata, self.statuses, self.poll_interval, self.lookback, started_at)
        is_stored = search.restore(await self._read_state()) or self.asset_state_store is None
        has_failed = False
        with searching(self.siliconflow_conn_id, search) as watch:
            while True:
                await watch.wait_for_update()
                if search.error is not None and not has_failed:
                    self.log.warning("listing the batches failed, will keep trying: %s", search.error)
                has_failed = search.error is not None
                ended = search.pop_ended()
                for batch in ended:
                    yield TriggerEvent(self._payload(batch))
                if ended:
                    await clock.sleep_async(SECONDS_UNTIL_STORED)
                if ended or not is_stored:
                    is_stored = await self._write_state(search.state)

    def _payload(self, batch: Batch) -> dict[str, Any]:
        counts, timing = batch.request_counts, batch.timing
        return {
            "batch_id": batch.id,
            "status": batch.final_status,
            "siliconflow_conn_id": self.siliconflow_conn_id,
            "request_counts": counts and {name: getattr(counts, name) for name in ("total", "completed", "failed")},
            "created_at": timing.created_at and timing.created_at.to_iso8601_string(),
            "ended_at": timing.ended_at and timing.ended_at.to_iso8601_string(),
        }

    @property
    def _state_key(self) -> str:
        """Return a key that triggers with other arguments on the same asset do not have."""
        arguments = json.dumps(self.serialize()[1], sort_keys=True)
        return f"siliconflow_ended_{hashlib.sha256(arguments.encode()).hexdigest()[:16]}"

    async def _read_state(self) -> Any:
        """Return the state that an earlier trigger has stored, or None. Return only when the store has answered.

        Without that state, the trigger would fire other events, and overwrite it.
        """
        from siliconflow_provider.api import clock

        for pause in chain(PAUSES_OF_READ, repeat(PAUSES_OF_READ[-1])):
            if self.asset_state_store is None:
                break
            try:
                async with asyncio.timeout(STORE_TIMEOUT):
                    return await self.asset_state_store.aget(self._state_key)
            except Exception as error:
                if type(error) is ValueError:  # Airflow's; those of a state backend are of other classes
                    self.log.warning(
                        "several assets have a trigger with these arguments, so its state is not kept, and a restart "
                        "of the triggerer can miss or repeat events: let the arguments differ, such as in lookback"
                    )
                    self.asset_state_store = None
                    break
                self.log.warning(
                    "reading the state failed, no events until it is read; will keep trying: %s", shown_error(error)
                )
            await clock.sleep_async(pause)
        return None

    async def _write_state(self, state: dict[str, Any] | None) -> bool:
        """Store the state of the search. Return True if nothing more is to be stored now."""
        if self.asset_state_store is None or state is None:
            return self.asset_state_store is None
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await self.asset_state_store.aset(self._state_key, state)
        except Exception as error:
            self.log.warning(
                "storing the state failed, so a restart of the triggerer can repeat events; will keep trying: %s",
                shown_error(error),
            )
            return False
        return True


def _as_texts(metadata: Any) -> dict[str, str]:
    """Return metadata, given as a mapping or as pairs, as a dict. Raise TypeError if they are not texts."""
    try:
        pairs: dict[str, str] = dict(metadata)
    except ValueError:
        pairs = {}
    if (metadata and not pairs) or not all(isinstance(text, str) for pair in pairs.items() for text in pair):
        raise TypeError(f"metadata is {metadata!r}: give a dict of texts")
    return pairs
