"""The trigger that waits for batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pendulum
from airflow.triggers.base import BaseTrigger, TriggerEvent

from siliconflow_provider.api import clock
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID, SiliconFlowHook
from siliconflow_provider.jobs.waiting import BatchWait, next_pause, poll, to_event, wait_ends


class BatchTrigger(BaseTrigger):
    """Waits until batches are over and reports once, with what `jobs.waiting.to_event` returns.

    It only asks; requests and the reading of the connection happen in a thread, off the event loop.

    :param batch_ids: the batches to wait for
    :param siliconflow_conn_id: the Airflow connection
    :param deadline: the moment (UTC) at which waiting ends; None stands for each batch's expiry and an hour.
        A moment and not a length, so that it survives a restart of the triggerer
    :param poll_interval: seconds between polls; None for a schedule that follows the batch's age
    """

    def __init__(
        self,
        batch_ids: Sequence[str],
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        deadline: pendulum.DateTime | None = None,
        poll_interval: float | None = None,
    ) -> None:
        super().__init__()
        self.batch_ids = list(batch_ids)
        self.siliconflow_conn_id = siliconflow_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and all that a triggerer needs to build this trigger anew."""
        return (
            "siliconflow_provider.triggers.batches.BatchTrigger",
            {
                "batch_ids": self.batch_ids,
                "siliconflow_conn_id": self.siliconflow_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until no wait is running any more, then yield the one event."""
        waits = [BatchWait(each, self.deadline, self.poll_interval) for each in self.batch_ids]
        hook = SiliconFlowHook(self.siliconflow_conn_id)
        while True:
            await asyncio.to_thread(poll, waits, lambda batch_id: hook.get_conn().get_batch(batch_id), clock.now)
            now = clock.now()
            for news in filter(None, (wait.news(now) for wait in waits)):
                self.log.info(news)
            ends = wait_ends(waits, now)
            if ends is not None:
                yield TriggerEvent(to_event(ends))
                return
            await clock.sleep_async(next_pause(waits, now))
