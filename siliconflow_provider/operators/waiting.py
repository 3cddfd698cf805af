"""Waiting for batches, deferred or on the worker, with one meaning of every end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from siliconflow_provider.exceptions import BatchWaitError
from siliconflow_provider.operators.connection import ConnectionMixin
from siliconflow_provider.verdicts import describe_kill, describe_running

if TYPE_CHECKING:
    from collections.abc import Callable

    import pendulum
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.jobs.waiting import WaitEnd

# The scheduler ends a deferral this much later than the trigger does, so it acts only when no triggerer lives.
TRIGGER_GRACE = timedelta(minutes=10)
SHORTEST_POLL_INTERVAL = 1.0


class BatchWaitingMixin(ConnectionMixin):
    """For operators and sensors that wait: they call `wait_for_batches` and implement `waiting_ended`."""

    deferrable: bool
    poll_interval: float | None
    timeout: Any
    cancel_on_kill: bool = False
    cancel_on_timeout: bool = False
    _is_killed: bool = False

    if TYPE_CHECKING:
        log: Any
        defer: Callable[..., Any]

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> Any:
        """Return the task's result, or raise what the ends stand for."""
        raise NotImplementedError

    def wait_for_batches(self, context: Context, batches: Sequence[Batch]) -> Any:
        """Wait until all batches are over or the deadline has come, and return what `waiting_ended` does.

        :raises TaskDeferred: to wait in the triggerer; the task goes on in `execute_complete`
        """
        from siliconflow_provider.api import clock
        from siliconflow_provider.jobs.waiting import deadline_of

        deadline = deadline_of(batches, length_of(self.timeout), clock.now())
        return self.wait_until(context, [each.id for each in batches], deadline)

    def wait_until(self, context: Context, batch_ids: Sequence[str], deadline: pendulum.DateTime) -> Any:
        """Wait like `wait_for_batches`, until a moment that is given."""
        if self.deferrable:
            return self.defer_until(batch_ids, deadline)
        return self._end_wait(context, self._wait_on_worker(batch_ids, deadline))

    def defer_until(self, batch_ids: Sequence[str], deadline: pendulum.DateTime) -> Any:
        """Wait in the triggerer.

        :raises TaskDeferred: always, unless the task was killed before
        """
        from siliconflow_provider.api import clock
        from siliconflow_provider.triggers.batches import BatchTrigger

        if self._is_killed:
            self._end_killed(self.hook.get_conn(), batch_ids)
            raise BatchWaitError(f"killed before waiting for {', '.join(batch_ids)}")
        self.log.info("waiting in the triggerer, at most until %s UTC", deadline.to_datetime_string())
        return self.defer(
            trigger=BatchTrigger(
                batch_ids, self.siliconflow_conn_id, deadline, self.poll_interval, self.cancel_on_kill
            ),
            method_name="execute_complete",
            # A plain timedelta: Airflow 3 cannot send pendulum's kinds to its supervisor.
            timeout=timedelta(seconds=max((deadline - clock.now()).total_seconds(), 0.0)) + TRIGGER_GRACE,
        )

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Go on after the trigger has reported.

        :raises BatchWaitError: when the report cannot be read
        """
        from siliconflow_provider.jobs.events import from_event

        try:
            ends = from_event(event)
        except ValueError as error:
            raise BatchWaitError(f"{error}: the batches run on, a retry of this task takes them over") from None
        return self._end_wait(context, ends)

    def on_kill(self) -> None:
        """Wake the wait on the worker; what a kill means is decided there, outside of the signal handler."""
        self._is_killed = True
        self._wake.put(None)

    @cached_property
    def _wake(self) -> SimpleQueue[None]:
        # Unlike an Event, it can be used by a signal handler that interrupts the very wait for it.
        return SimpleQueue()

    def _wait_on_worker(self, batch_ids: Sequence[str], deadline: pendulum.DateTime) -> list[WaitEnd]:
        from airflow.providers.common.compat.sdk import AirflowTaskTimeout

        from siliconflow_provider.api import clock
        from siliconflow_provider.jobs.waiting import BatchWait, next_pause, poll, wait_ends

        client = self.hook.get_conn()
        waits = [BatchWait(each, deadline, self.poll_interval) for each in batch_ids]
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
                if clock.wait_for(self._wake, next_pause(waits, now)):
                    raise BatchWaitError(f"killed while waiting for {', '.join(batch_ids)}")
        except AirflowTaskTimeout:
            # Airflow calls on_kill for this too, but only after it has left the wait.
            self._is_killed = True
            raise
        finally:
            # Airflow 2 raises in its signal handler, Airflow 3 lets the loop go on.
            if self._is_killed:
                self._end_killed(client, batch_ids)

    def _end_killed(self, client: SiliconFlowClient, batch_ids: Sequence[str]) -> None:
        """Cancel what a killed task waited for if that is asked for, and say what becomes of it."""
        from siliconflow_provider.api.errors import SiliconFlowError
        from siliconflow_provider.jobs.cancellation import cancel_unless_over

        if not self.cancel_on_kill:
            self.log.warning("killed: %s", describe_running(batch_ids, self.siliconflow_conn_id))
            return
        outcomes: dict[str, Batch | Exception] = {}
        for batch_id in batch_ids:
            try:
                outcomes[batch_id] = cancel_unless_over(client, batch_id)
            except SiliconFlowError as error:
                outcomes[batch_id] = error
        for line in describe_kill(outcomes, self.siliconflow_conn_id, cancel=True):
            self.log.warning("%s", line)

    def _end_wait(self, context: Context, ends: list[WaitEnd]) -> Any:
        """Cancel what was not over at the deadline if that is asked for, and go on."""
        if self.cancel_on_timeout:
            ends = [self._cancelled_when_overdue(each) for each in ends]
        return self.waiting_ended(context, ends)

    def _cancelled_when_overdue(self, end: WaitEnd) -> WaitEnd:
        if end.state != "timeout":
            return end
        batch = self._cancel(self.hook.get_conn(), end.batch_id, "cancel_on_timeout")
        if batch is None:
            return end
        return replace(end, batch=batch, state="over" if batch.is_terminal else "cancelled")

    def _cancel(self, client: SiliconFlowClient, batch_id: str, reason: str) -> Batch | None:
        """Return the batch as it is then, or None when it could not be cancelled."""
        from siliconflow_provider.api.errors import SiliconFlowError
        from siliconflow_provider.jobs.cancellation import cancel_unless_over

        try:
            return cancel_unless_over(client, batch_id)
        except SiliconFlowError as error:
            running = describe_running([batch_id], self.siliconflow_conn_id)
            self.log.error("%s could not cancel: %s. %s", reason, error, running)
            return None


def check_poll_interval(poll_interval: float | None) -> None:
    """Raise ValueError for an interval that would flood the service."""
    if poll_interval is not None and poll_interval < SHORTEST_POLL_INTERVAL:
        raise ValueError(
            f"poll_interval is {poll_interval!r}: give at least {SHORTEST_POLL_INTERVAL:g} second, or None for a "
            "schedule that follows the batch's age"
        )


def check_timeout(timeout: float | timedelta | None) -> None:
    """Raise ValueError for a length that would end a wait before it begins."""
    length = length_of(timeout)
    if length is not None and length <= timedelta():
        raise ValueError(f"timeout is {timeout!r}: give a positive length of time, or None for the batch's window")


def length_of(timeout: float | timedelta | None) -> timedelta | None:
    """Return a length of time that may be given in seconds."""
    return timedelta(seconds=timeout) if isinstance(timeout, (int, float)) else timeout
