"""Wait for batches, in the triggerer or on the worker. Both ways end with the same errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from siliconflow_provider.exceptions import BatchWaitError, InvalidArgumentError
from siliconflow_provider.operators.connection import ConnectionMixin
from siliconflow_provider.operators.final_errors import final_if_refused
from siliconflow_provider.verdicts import batches_text, describe_kill, describe_running, describe_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    import pendulum
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.waiting import WaitEnd

# The scheduler ends a deferral this much later than the trigger, so it acts only if no triggerer is running.
DEFERRAL_MARGIN = timedelta(minutes=10)
SHORTEST_POLL_INTERVAL = 1.0


class BatchWaitingMixin(ConnectionMixin):
    """Mixin for operators and sensors that wait: call `wait_for_batches` and implement `waiting_ended`."""

    deferrable: bool
    poll_interval: float | None
    timeout: Any
    cancel_on_kill: bool = False
    cancel_on_timeout: bool = False
    execution_timeout: timedelta | None
    _is_killed: bool = False

    if TYPE_CHECKING:
        log: Any
        defer: Callable[..., Any]

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> Any:
        """Return the task's result after the wait, or raise the error for the batches' statuses."""
        raise NotImplementedError

    def wait_for_batches(self, context: Context, batches: Sequence[Batch]) -> Any:
        """Wait until all batches have ended or the deadline has passed, and return the result of `waiting_ended`.

        :raises TaskDeferred: to wait in the triggerer; the task continues in `execute_complete`
        """
        from siliconflow_provider.operators.state_store import write_progress
        from siliconflow_provider.waiting import deadline_of

        now = self.hook.get_conn().now()
        write_progress(context, batches, now)
        deadline = deadline_of(batches, as_timedelta(self.timeout), now)
        return self.wait_until(context, [batch.id for batch in batches], deadline)

    def wait_until(self, context: Context, batch_ids: Sequence[str], deadline: pendulum.DateTime) -> Any:
        """Wait like `wait_for_batches`, until a given deadline by the service's clock."""
        if self.deferrable:
            return self.defer_until(context, batch_ids, deadline)
        return self.waiting_ended(context, self.wait_on_worker(context, batch_ids, deadline))

    def defer_until(
        self, context: Context, batch_ids: Sequence[str], deadline: pendulum.DateTime, most_running: int = 0
    ) -> Any:
        """Wait in the triggerer.

        :param most_running: the wait ends when at most this many of the batches are running
        :raises TaskDeferred: always, unless the task was already killed
        """
        from siliconflow_provider.triggers.batches import BatchTrigger

        client = self.hook.get_conn()
        if self._is_killed:
            self._handle_kill(client, batch_ids)
            raise BatchWaitError(f"killed before waiting for {batches_text(batch_ids)}")
        now = client.now()
        stop_at = self._stop_at(context, now)
        ends_at = deadline if stop_at is None else min(deadline, stop_at)
        limit = f"execution_timeout={self.execution_timeout}" if ends_at is stop_at else self._limit
        self.log.info("waiting in the triggerer until %s UTC at most (%s)", ends_at.to_datetime_string(), limit)
        if self.cancel_on_kill:
            self.log.info("cancel_on_kill needs a running triggerer: without one, marking this task cancels no batches")
        return self.defer(
            trigger=BatchTrigger(
                batch_ids,
                self.siliconflow_conn_id,
                deadline,
                self.poll_interval,
                self.cancel_on_kill,
                stop_at,
                most_running,
            ),
            method_name="execute_complete",
            # A plain timedelta: Airflow 3 cannot send pendulum's types to its supervisor.
            timeout=timedelta(seconds=max((ends_at - now).total_seconds(), 0.0)) + DEFERRAL_MARGIN,
        )

    @property
    def _limit(self) -> str:
        timeout = as_timedelta(self.timeout)
        return "one hour after the completion window" if timeout is None else f"timeout={timeout}"

    def _stop_at(self, context: Context, now: pendulum.DateTime) -> pendulum.DateTime | None:
        """Return the moment at which `execution_timeout` ends, or None if Airflow itself ends the deferral then.

        Airflow 2 does, Airflow 3 does not.
        """
        from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

        from siliconflow_provider.api import clock

        if self.execution_timeout is None or not AIRFLOW_V_3_0_PLUS:
            return None
        # Both times are by this machine's clock.
        started_at = getattr(context["ti"], "start_date", None)
        elapsed = 0.0 if started_at is None else clock.now().timestamp() - started_at.timestamp()
        return now.add(seconds=max(self.execution_timeout.total_seconds() - max(elapsed, 0.0), 0.0))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume the task after a deferral, in another process than the one that deferred it."""
        self.batches_link = None
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]

    @final_if_refused
    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Continue after the trigger's event.

        :raises BatchWaitError: if the event is not valid
        """
        from siliconflow_provider.waiting import from_event

        try:
            ends = from_event(event)
        except ValueError as error:
            raise BatchWaitError(f"{error}.\nThe batches may still be running; a retry will resume them") from None
        stopped = [end for end in ends if end.state == "execution_timeout"]
        if stopped:
            self._end_at_execution_timeout(stopped)
        overdue = [end for end in ends if end.state == "timeout"]
        if overdue and (deadline := self._later_deadline(overdue[0])):
            self.log.warning("the triggerer's clock is ahead of the service's: continuing to wait until the deadline")
            return self.wait_until(context, [end.batch_id for end in overdue], deadline)
        return self.waiting_ended(context, self._cancel_overdue_waits(ends))

    def on_kill(self) -> None:
        """Wake up the wait on the worker, which handles the kill outside of the signal handler."""
        self._is_killed = True
        self._wake.put(None)

    @cached_property
    def _wake(self) -> SimpleQueue[None]:
        # Unlike an Event, it can be used by a signal handler that interrupts the wait for it.
        return SimpleQueue()

    def wait_on_worker(
        self, context: Context, batch_ids: Sequence[str], deadline: pendulum.DateTime, most_running: int = 0
    ) -> list[WaitEnd]:
        """Wait on the worker, and return the outcomes. The arguments are those of `defer_until`."""
        from airflow.providers.common.compat.sdk import AirflowTaskTimeout

        from siliconflow_provider.api import clock
        from siliconflow_provider.operators.state_store import write_progress
        from siliconflow_provider.waiting import BatchWait, ProgressLog, next_pause, poll, wait_ends

        client = self.hook.get_conn()
        waits = [BatchWait(batch_id, deadline, self.poll_interval) for batch_id in batch_ids]
        progress_log = ProgressLog()
        self.log.info("waiting on the worker until %s UTC at most (%s)", deadline.to_datetime_string(), self._limit)
        try:
            while True:
                poll(waits, client.get_batch, client.now)
                now = client.now()
                lines = progress_log.next_log_lines(waits, now)
                for line in lines:
                    self.log.info(line)
                if lines:
                    write_progress(context, [wait.batch for wait in waits], now)
                ends = wait_ends(waits, now, most_running)
                if ends is not None:
                    break
                if clock.wait_for(self._wake, next_pause(waits, now)):
                    raise BatchWaitError(f"killed while waiting for {batches_text(batch_ids)}")
        except AirflowTaskTimeout:
            # Airflow calls on_kill for this too, but only after the wait has ended.
            self._is_killed = True
            raise
        finally:
            # Airflow 2 raises in its signal handler, Airflow 3 lets the loop continue.
            if self._is_killed:
                self._handle_kill(client, batch_ids)
        return self._cancel_overdue_waits(ends)

    def _handle_kill(self, client: SiliconFlowClient, batch_ids: Sequence[str]) -> None:
        """Cancel the batches of a killed task if `cancel_on_kill` is set, and log their status."""
        from siliconflow_provider.api.errors import SiliconFlowError
        from siliconflow_provider.batches import cancel_unless_over

        if not self.cancel_on_kill:
            self.log.warning("task was killed. %s", describe_running(batch_ids, self.siliconflow_conn_id))
            return
        outcomes: dict[str, Batch | Exception] = {}
        for batch_id in batch_ids:
            try:
                outcomes[batch_id] = cancel_unless_over(client, batch_id)
            except SiliconFlowError as error:
                outcomes[batch_id] = error
        for line in describe_kill(outcomes, self.siliconflow_conn_id, cancel=True):
            self.log.warning("%s", line)

    def _cancel_overdue_waits(self, ends: list[WaitEnd]) -> list[WaitEnd]:
        """Cancel overdue batches if `cancel_on_timeout` is set, and return the outcomes after that."""
        return [self._cancel_if_overdue(end) for end in ends] if self.cancel_on_timeout else ends

    def _end_at_execution_timeout(self, ends: Sequence[WaitEnd]) -> None:
        """Handle `execution_timeout` as Airflow does: kill the task."""
        from airflow.providers.common.compat.sdk import AirflowTaskTimeout

        batch_ids = [end.batch_id for end in ends]
        self._handle_kill(self.hook.get_conn(), batch_ids)
        raise AirflowTaskTimeout(
            f"execution_timeout={self.execution_timeout} ended at {ends[0].deadline} UTC, before "
            f"{describe_unfinished(ends)}"
        )

    def _later_deadline(self, end: WaitEnd) -> pendulum.DateTime | None:
        """Return the deadline if the service's clock has not reached it, else None.

        The service's clock is read from a response.
        """
        import pendulum

        from siliconflow_provider.api.errors import SiliconFlowError

        client = self.hook.get_conn()
        try:
            client.get_batch(end.batch_id)
        except SiliconFlowError:
            return None
        deadline = pendulum.parse(end.deadline or "")
        return deadline if isinstance(deadline, pendulum.DateTime) and client.now() < deadline else None

    def _cancel_if_overdue(self, end: WaitEnd) -> WaitEnd:
        if end.state != "timeout":
            return end
        from siliconflow_provider.api.errors import SiliconFlowError
        from siliconflow_provider.batches import cancel_unless_over

        try:
            batch = cancel_unless_over(self.hook.get_conn(), end.batch_id)
        except SiliconFlowError as error:
            return replace(end, error=f"cancel_on_timeout could not cancel: {error}")
        return replace(end, batch=batch, error=None, state="over" if batch.is_terminal else "cancelled")


def check_poll_interval(poll_interval: float | None) -> None:
    """Raise InvalidArgumentError if the interval is too short for the service."""
    is_length = isinstance(poll_interval, (int, float)) and poll_interval >= SHORTEST_POLL_INTERVAL
    if poll_interval is not None and not is_length:
        raise InvalidArgumentError(
            f"poll_interval is {poll_interval!r}: give at least {SHORTEST_POLL_INTERVAL:g} second, or None to poll at "
            "intervals that grow with the batch's age"
        )


def check_timeout(timeout: float | timedelta | None) -> None:
    """Raise InvalidArgumentError if the timeout is not positive."""
    length = as_timedelta(timeout)
    if length is not None and not (isinstance(length, timedelta) and length > timedelta()):
        raise InvalidArgumentError(f"timeout is {timeout!r}: give a positive duration, or None for the batch's window")


def as_timedelta(timeout: float | timedelta | None) -> timedelta | None:
    """Return a timeout as a `timedelta`; a number means seconds."""
    return timedelta(seconds=timeout) if isinstance(timeout, (int, float)) else timeout
