"""Waiting for batches, deferred or on the worker, with one meaning of every end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from siliconflow_provider.exceptions import VERDICTS, BatchTimeoutError, BatchWaitError
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

if TYPE_CHECKING:
    from collections.abc import Callable

    import pendulum
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.jobs.waiting import WaitEnd

# The scheduler ends a deferral this much later than the trigger does, so it acts only when no triggerer lives.
TRIGGER_GRACE = timedelta(minutes=10)
SHORTEST_POLL_INTERVAL = 1.0


class BatchWaitingMixin:
    """For operators and sensors that wait: they call `wait_for_batches` and implement `waiting_ended`."""

    siliconflow_conn_id: str
    deferrable: bool
    poll_interval: float | None
    timeout: Any

    if TYPE_CHECKING:
        log: Any
        defer: Callable[..., Any]

    @cached_property
    def hook(self) -> SiliconFlowHook:
        """The hook of this task's connection."""
        return SiliconFlowHook(self.siliconflow_conn_id)

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> Any:
        """Return the task's result, or raise what the ends stand for."""
        raise NotImplementedError

    def wait_for_batches(self, context: Context, batches: Sequence[Batch]) -> Any:
        """Wait until all batches are over or the deadline has come, and return what `waiting_ended` does.

        :raises TaskDeferred: to wait in the triggerer; the task goes on in `execute_complete`
        """
        from siliconflow_provider.api import clock
        from siliconflow_provider.jobs.waiting import deadline_of

        now = clock.now()
        deadline = deadline_of(batches, _length(self.timeout), now)
        batch_ids = [each.id for each in batches]
        if not self.deferrable:
            return self.waiting_ended(context, self._wait_on_worker(batch_ids, deadline))

        from siliconflow_provider.triggers.batches import BatchTrigger

        self.log.info("waiting in the triggerer, at most until %s UTC", deadline.to_datetime_string())
        return self.defer(
            trigger=BatchTrigger(batch_ids, self.siliconflow_conn_id, deadline, self.poll_interval),
            method_name="execute_complete",
            # A plain timedelta: Airflow 3 cannot send pendulum's kinds to its supervisor.
            timeout=timedelta(seconds=max((deadline - now).total_seconds(), 0.0)) + TRIGGER_GRACE,
        )

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Go on after the trigger has reported.

        :raises BatchWaitError: when the report cannot be read
        """
        from siliconflow_provider.jobs.waiting import from_event

        try:
            ends = from_event(event)
        except ValueError as error:
            raise BatchWaitError(f"{error}: the batches run on, a retry of this task takes them over") from None
        return self.waiting_ended(context, ends)

    def on_kill(self) -> None:
        """Wake the wait on the worker; what a kill means is decided there, outside of the signal handler."""
        killed = getattr(self, "_killed", None)
        if killed is not None:
            killed.set()

    def _wait_on_worker(self, batch_ids: Sequence[str], deadline: pendulum.DateTime) -> list[WaitEnd]:
        from siliconflow_provider.api import clock
        from siliconflow_provider.jobs.waiting import BatchWait, next_pause, poll, wait_ends

        client = self.hook.get_conn()
        waits = [BatchWait(each, deadline, self.poll_interval) for each in batch_ids]
        self._killed = threading.Event()
        self.log.info("waiting on the worker, at most until %s UTC", deadline.to_datetime_string())
        try:
            while True:
                poll(waits, client.get_batch, clock.now)
                now = clock.now()
                for news in filter(None, (wait.news(now) for wait in waits)):
                    self.log.info(news)
                ends = wait_ends(waits, now)
                if ends is not None:
                    return ends
                if clock.wait_for(self._killed, next_pause(waits, now)):
                    raise BatchWaitError(f"killed while waiting for {', '.join(batch_ids)}")
        finally:
            # Airflow 2 raises in its signal handler, Airflow 3 lets the loop go on.
            if self._killed.is_set():
                self.log.warning("%s", _still_running(batch_ids, self.siliconflow_conn_id))


def raise_for_ends(ends: Sequence[WaitEnd], siliconflow_conn_id: str) -> None:
    """Raise unless every batch has completed.

    :raises BatchVerdictError: when one failed, expired or was cancelled
    :raises BatchTimeoutError: when one was not over at the deadline
    :raises BatchWaitError: when one could no longer be asked for
    """
    from siliconflow_provider.jobs.waiting import describe_end

    for end in ends:
        if end.batch is not None and end.batch.final_status in VERDICTS:
            raise VERDICTS[end.batch.final_status](f"{describe_end(end.batch)}. {_consequences(end.batch)}")
    for end in ends:
        if end.state == "timeout":
            raise BatchTimeoutError(_describe_timeout(end, siliconflow_conn_id))
        if end.state == "error":
            raise BatchWaitError(
                f"gave up asking for batch {end.batch_id}: {end.error}. Whether it still runs and costs is not known"
            )


def _consequences(batch: Batch) -> str:
    """Say what a verdict leaves to do."""
    counts = batch.request_counts
    if counts is not None and counts.completed:
        delivered = (
            f"The {counts.completed:,} answers are billed and kept for 30 days: DownloadResultsOperator with "
            f"batch_id={batch.id!r} writes them"
        )
    elif counts is not None:
        delivered = "Nothing was answered"
    else:
        delivered = f"DownloadResultsOperator with batch_id={batch.id!r} writes what was answered, if anything"
    return f"{delivered}. Airflow does not retry this; clearing the task submits and buys a new batch"


def _describe_timeout(end: WaitEnd, siliconflow_conn_id: str) -> str:
    state = f"is {end.batch.status}" if end.batch is not None else "was never seen"
    counts = end.batch.request_counts if end.batch is not None else None
    done = f", {counts.completed + counts.failed:,} of {counts.total:,} requests done" if counts is not None else ""
    message = f"batch {end.batch_id} was not over at the deadline, {end.deadline} UTC: it {state}{done}"
    if end.error is not None:
        message += f" as far as is known, since asking fails ({end.error})"
    return (
        f"{message}. {_still_running([end.batch_id], siliconflow_conn_id)}. A larger timeout waits longer; "
        "a retry succeeds once the batch has completed"
    )


def _still_running(batch_ids: Sequence[str], siliconflow_conn_id: str) -> str:
    """Say what goes on, what that costs, and how to end it."""
    cancels = "; ".join(f"client.cancel_batch({each!r})" for each in batch_ids)
    return (
        f"It runs on and what it answers is billed ({', '.join(batch_ids)}); the next attempt of this task takes it "
        f"over. To cancel: client = SiliconFlowHook({siliconflow_conn_id!r}).get_conn(); {cancels}"
    )


def check_waiting_arguments(poll_interval: float | None, timeout: float | timedelta | None) -> None:
    """Raise ValueError for arguments that would flood the service or end a wait before it begins."""
    if poll_interval is not None and poll_interval < SHORTEST_POLL_INTERVAL:
        raise ValueError(
            f"poll_interval is {poll_interval!r}: give at least {SHORTEST_POLL_INTERVAL:g} second, or None for a "
            "schedule that follows the batch's age"
        )
    length = _length(timeout)
    if length is not None and length <= timedelta():
        raise ValueError(f"timeout is {timeout!r}: give a positive length of time, or None for the batch's window")


def _length(timeout: float | timedelta | None) -> timedelta | None:
    return timedelta(seconds=timeout) if isinstance(timeout, (int, float)) else timeout
