"""Sensor that waits for a batch of another task or of another program."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseSensorOperator, PokeReturnValue

from siliconflow_provider.exceptions import BatchTimeoutError
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.links import BatchesLink
from siliconflow_provider.operators.final_errors import check_argument_id, final_if_refused, is_refusal
from siliconflow_provider.operators.waiting import BatchWaitingMixin, check_poll_interval
from siliconflow_provider.verdicts import describe_deadline, describe_running, raise_for_ends

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.waiting import BatchWait, ProgressLog, WaitEnd

# A completion window may be 14 days long, but Airflow's default timeout for sensors is 7 days.
DEFAULT_TIMEOUT = timedelta(days=15)


class BatchSensor(BatchWaitingMixin, BaseSensorOperator):
    """Wait until a batch has ended. Returns its id if it has completed, and fails if it ended with another status.

    :param batch_id: id of the batch, such as `CreateBatchOperator(...).output`
    :param deferrable: True (the default) waits in the triggerer, False as `mode` says: `poke` or `reschedule`
    :param poll_interval: seconds between polls in the triggerer, at least 1; by default 5% of the batch's age, from
        10 s to 300 s. If `deferrable` is False, Airflow's `poke_interval` is used
    :param timeout: seconds or `timedelta` from the sensor's start until it fails; 15 days by default. In any case
        waiting ends one hour after the batch's completion window
    :param siliconflow_conn_id: id of the Airflow connection
    """

    template_fields: Sequence[str] = ("batch_id", "siliconflow_conn_id")
    operator_extra_links = (BatchesLink(),)

    def __init__(
        self,
        *,
        batch_id: str,
        deferrable: bool = True,
        poll_interval: float | None = None,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        check_poll_interval(poll_interval)
        self.batch_id = batch_id
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.siliconflow_conn_id = siliconflow_conn_id

    @final_if_refused
    def execute(self, context: Context) -> Any:
        """Poll once and defer; if `deferrable` is False, poke like any Airflow sensor."""
        from siliconflow_provider.waiting import to_event

        check_argument_id("batch_id", self.batch_id)
        BatchesLink.persist(context, self)
        if not self.deferrable:
            return super().execute(context)
        ends = self._poll()
        deadline = self.hook.get_conn().now() + timedelta(seconds=self.timeout)
        if ends is not None:
            # The same path as after a deferral, so that soft_fail works the same way.
            return self.resume_execution("execute_complete", {"event": to_event(ends)}, context)
        own = self._wait.deadline
        return self.defer_until(context, [self.batch_id], deadline if own is None else min(deadline, own))

    @property
    def _limit(self) -> str:
        return f"timeout={timedelta(seconds=self.timeout)}, and at the latest one hour after the completion window"

    @final_if_refused
    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll once. The result is true if the batch has completed."""
        ends = self._poll()
        if ends is not None:
            return PokeReturnValue(is_done=True, xcom_value=self.waiting_ended(context, ends))
        if self.reschedule and self._wait.error is not None and self._wait.refused_since is not None:
            # The next poll runs in another process, which cannot know how long the error has lasted.
            raise self._wait.error
        return False

    def _poll(self) -> list[WaitEnd] | None:
        from siliconflow_provider.waiting import poll, wait_ends

        client = self.hook.get_conn()
        poll([self._wait], client.get_batch, client.now)
        if self._wait.batch is None and self._wait.error is not None and is_refusal(self._wait.error):
            # The key has never worked; a key that is refused later may work again.
            raise self._wait.error
        now = client.now()
        for line in self._progress_log.next_log_lines([self._wait], now):
            self.log.info(line)
        return wait_ends([self._wait], now)

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> str:
        """Return the id of the completed batch, or raise the error for its status."""
        from siliconflow_provider.waiting import describe_end

        end = ends[0]
        if end.batch is not None and end.batch.is_terminal:
            self.log.info("%s", describe_end(end.batch))
        try:
            raise_for_ends(ends, self.siliconflow_conn_id)
        except BatchTimeoutError:
            # Airflow's own error for sensors. Clearing a sensor restarts its timeout, unlike an operator's.
            raise AirflowSensorTimeout(
                f"{describe_deadline(end)}.\n{describe_running([end.batch_id], self.siliconflow_conn_id)}"
            ) from None
        return end.batch_id

    @cached_property
    def _wait(self) -> BatchWait:
        from siliconflow_provider.waiting import BatchWait

        return BatchWait(self.batch_id)

    @cached_property
    def _progress_log(self) -> ProgressLog:
        from siliconflow_provider.waiting import ProgressLog

        return ProgressLog()
