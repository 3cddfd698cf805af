"""Cancel the batches of a trigger whose task was ended by a user."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import AnswerLostError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.redaction import shown_error
from siliconflow_provider.batches import cancel_unless_over
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.triggers.confirmation import has_task_ended
from siliconflow_provider.triggers.threads import run_in_thread
from siliconflow_provider.verdicts import describe_kill, describe_running

# Airflow 3.3 gives a trigger 30 s by default (`[triggerer] on_kill_timeout`).
KILL_SECONDS = 20.0
ANSWER_SECONDS = 5.0
MOST_REQUESTS = 16
# The event loop's own pool also looks up the host names of all other triggers.
_pool = ThreadPoolExecutor(MOST_REQUESTS, thread_name_prefix="kill-siliconflow")


class KillHandler:
    """Handle the stop of one trigger. Batches are cancelled only if Airflow confirms that a user ended the task.

    :param task_instance: the trigger's task instance
    :param cancel: False only logs that the batches are still running
    :param log: the trigger's logger
    """

    def __init__(
        self, task_instance: Any, batch_ids: Sequence[str], siliconflow_conn_id: str, *, cancel: bool, log: Any
    ) -> None:
        self._task_instance = task_instance
        self._batch_ids = batch_ids
        self._conn_id = siliconflow_conn_id
        self._cancel = cancel
        self._log = log
        self._outcomes: dict[str, Batch | Exception] = {}
        self._is_late = False

    async def run(self) -> None:
        """Cancel the batches within 20 seconds, and log the outcome of each.

        This coroutine continues when it is cancelled: Airflow cancels a stopped trigger every second until it ends.
        """
        killing = asyncio.create_task(self._run())
        while not killing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([killing])

    async def _run(self) -> None:
        failure: Exception = TimeoutError(f"no response within {KILL_SECONDS:g} s")
        try:
            async with asyncio.timeout(KILL_SECONDS):
                if not await run_in_thread(_pool, lambda: has_task_ended(self._task_instance)):
                    self._log.info("trigger stopped, but the task has not ended: its batches were not cancelled")
                    return
                hook = SiliconFlowHook(self._conn_id)
                client = await run_in_thread(_pool, lambda: hook.get_quick_conn(ANSWER_SECONDS))
                await asyncio.gather(*(self._end(client, batch_id) for batch_id in self._batch_ids))
        except TimeoutError:
            self._is_late = True
        # Not raised: it could fail a task that continues elsewhere.
        except Exception as error:
            failure = error
        if self._outcomes:
            for line in describe_kill(self._outcomes, self._conn_id, cancel=self._cancel):
                self._log.warning("%s", line)
        else:
            running = describe_running(self._batch_ids, self._conn_id, is_known=False)
            self._log.warning("trigger stopped; no batch was cancelled (%s). %s", shown_error(failure), running)

    async def _end(self, client: SiliconFlowClient, batch_id: str) -> None:
        self._outcomes[batch_id] = TimeoutError(f"the request was not sent within {KILL_SECONDS:g} s")
        try:
            outcome: Batch | Exception = await run_in_thread(_pool, lambda: self._ask(client, batch_id))
        except Exception as error:
            outcome = error
        self._outcomes[batch_id] = outcome

    def _ask(self, client: SiliconFlowClient, batch_id: str) -> Batch:
        if self._is_late:
            raise TimeoutError
        self._outcomes[batch_id] = AnswerLostError(f"no response within {KILL_SECONDS:g} s; it may still be cancelled")
        return (cancel_unless_over if self._cancel else SiliconFlowClient.get_batch)(client, batch_id)
