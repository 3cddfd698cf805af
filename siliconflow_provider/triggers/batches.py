"""Trigger that waits for batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pendulum
from airflow.triggers.base import BaseTrigger, TriggerEvent

from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.triggers.kill import KillHandler
from siliconflow_provider.triggers.requests import LONGEST_ANSWER_SECONDS
from siliconflow_provider.triggers.watcher import watching
from siliconflow_provider.waiting import BatchWait, ProgressLog, WaitEnd, seconds_until_all_end, to_event, wait_ends

AIRFLOW_CALLS_ON_KILL = hasattr(BaseTrigger, "on_kill")
# A clock that is set while the trigger waits is noticed within an hour.
LONGEST_SILENCE_SECONDS = 3600.0


class BatchTrigger(BaseTrigger):
    """Wait until batches have ended, and fire one event, with the payload of `waiting.to_event`.

    All triggers of a connection share one watcher, which polls the service outside of the event loop.

    :param batch_ids: ids of the batches to wait for
    :param siliconflow_conn_id: id of the Airflow connection
    :param deadline: the moment (UTC) at which waiting ends; None means one hour after each batch's expiry. It is a
        moment and not a duration, so that it survives a restart of the triggerer
    :param poll_interval: seconds between polls; None for intervals that grow with the batch's age
    :param stop_at: the moment (UTC) at which the task's `execution_timeout` ends, if Airflow does not end the deferral
    :param cancel_on_kill: cancel the batches if a user marks the waiting task as failed, success or skipped
    :param most_running: fire when at most this many of the batches are running, with the outcomes of the others
    """

    def __init__(
        self,
        batch_ids: Sequence[str],
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        deadline: pendulum.DateTime | None = None,
        poll_interval: float | None = None,
        cancel_on_kill: bool = False,
        stop_at: pendulum.DateTime | None = None,
        most_running: int = 0,
    ) -> None:
        super().__init__()
        self.batch_ids = list(batch_ids)
        self.siliconflow_conn_id = siliconflow_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.stop_at = stop_at
        self.most_running = most_running

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of this trigger."""
        return (
            "siliconflow_provider.triggers.batches.BatchTrigger",
            {
                "batch_ids": self.batch_ids,
                "siliconflow_conn_id": self.siliconflow_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
                "stop_at": self.stop_at,
                "most_running": self.most_running,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until all waits have ended, then yield one event."""
        try:
            ends = await self._wait()
        except asyncio.CancelledError:
            if not AIRFLOW_CALLS_ON_KILL:
                await self.on_kill()
            raise
        # Outside of the `try`: closing this generator after its event is not a kill.
        yield TriggerEvent(to_event(ends))

    async def on_kill(self) -> None:
        """Cancel the batches, or log that they are still running, if Airflow confirms that a user ended the task."""
        task_instance, cancel = self.task_instance, self.cancel_on_kill
        await KillHandler(task_instance, self.batch_ids, self.siliconflow_conn_id, cancel=cancel, log=self.log).run()

    async def _wait(self) -> list[WaitEnd]:
        waits = [BatchWait(batch_id, self.deadline, self.poll_interval, self.stop_at) for batch_id in self.batch_ids]
        progress_log = ProgressLog()
        with watching(self.siliconflow_conn_id, waits) as watch:
            while True:
                seconds = seconds_until_all_end(waits, watch.now())
                # Wait for the last poll, at the deadline: a batch that has ended has not timed out.
                has_update = await watch.wait_for_update(min(seconds + LONGEST_ANSWER_SECONDS, LONGEST_SILENCE_SECONDS))
                now = watch.now()
                for line in progress_log.next_log_lines(waits, now):
                    self.log.info(line)
                may_end = self.most_running or watch.is_over or not has_update
                ends = wait_ends(waits, now, self.most_running) if may_end else None
                if ends is not None:
                    return ends
