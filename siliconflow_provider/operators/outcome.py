"""Decide how a task ends after its job has stopped: with a summary, or with an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siliconflow_provider.exceptions import (
    BatchCancelledError,
    BatchTimeoutError,
    BatchWaitError,
    JobDefinitionError,
    MaxCostError,
    MissedSuccessRateError,
    RepeatedFailureError,
)
from siliconflow_provider.links import REPORT_KEY
from siliconflow_provider.verdicts import batches_text

if TYPE_CHECKING:
    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.jobs import Finished

_RESULT_KEYS = ("rows", "counts", "tokens", "cost", "rounds", "reused", "deduplicated")
# The results of a task that ends with one of these errors are final until a person changes something.
_WITH_RESULT = (MissedSuccessRateError, RepeatedFailureError, MaxCostError)


@dataclass(frozen=True)
class Cancellation:
    """The batches that were still running at the timeout, if the task cancels them.

    :param cancelled: ids of the cancelled batches
    :param failures: an error text for each other batch
    """

    cancelled: Sequence[str] = ()
    failures: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """The end of a job.

    :param summary: sentences about the job
    :param changes: a message that names the arguments that changed; empty if none did
    :param min_success_rate: see `BatchInferenceOperator`
    """

    job: Finished
    cancellation: Cancellation
    summary: str
    changes: str
    min_success_rate: float | None

    @property
    def result(self) -> dict[str, Any]:
        """The task's XCom."""
        manifest = self.job.manifest
        return {
            "results_path": manifest["paths"]["results"],
            "manifest_path": manifest["paths"]["manifest"],
            **({REPORT_KEY: manifest["paths"]["report"]} if "report" in manifest["paths"] else {}),
            "success_rate": self._success_rate,
            **{name: manifest[name] for name in _RESULT_KEYS if name in manifest},
        }

    def error(self) -> Exception | None:
        """Return the error with which the task ends, or None."""
        return self._stop() or self._failure()

    @staticmethod
    def has_result(error: Exception) -> bool:
        """Return True if tasks that also run after a failure need the result beside the error."""
        return isinstance(error, _WITH_RESULT)

    @property
    def _success_rate(self) -> float:
        manifest = self.job.manifest
        return manifest["counts"].get("succeeded", 0) / manifest["rows"] if manifest["rows"] else 1.0

    def _stop(self) -> Exception | None:
        """Return the error for a job that stopped before its end."""
        job, cancelled, failures = self.job, self.cancellation.cancelled, self.cancellation.failures
        timed_out = f"the job timed out at {job.deadline.to_datetime_string()} UTC" if job.deadline else ""
        if failures:
            return BatchWaitError(
                f"{timed_out}, and cancel_on_timeout could not cancel all: {failures[0]}.\n{self.summary}"
            )
        if cancelled:
            return BatchCancelledError(
                f"{timed_out}; cancel_on_timeout cancelled {batches_text(cancelled)}.\n{self.summary}"
            )
        results = job.manifest["paths"]["results"]
        if self.changes and not job.running:
            return JobDefinitionError(f"{self.changes}.\nIn {results}: {self.summary}")
        if job.refusal is not None and not job.running:
            return MaxCostError(f"{job.refusal}.\nIn {results}: {self.summary}")
        if not job.manifest["complete"]:
            return BatchTimeoutError(
                f"{timed_out}.\n{self.summary}.\nAirflow does not retry this task, since the timeout counts from the "
                "creation of the job's first batch.\nTo continue the job, set a larger timeout, or none, and clear the "
                "task"
            )
        return None

    def _failure(self) -> Exception | None:
        """Return the error for a job whose answers are not good enough."""
        manifest, rate = self.job.manifest, self._success_rate
        if self.job.repeated is not None:
            return RepeatedFailureError(f"{self.job.repeated.describe()}.\n{self.summary}")
        if rate >= (self.min_success_rate or 0.0) and rate > 0.0:
            return None
        if manifest["counts"].get("rejected") == manifest["rows"]:
            return MissedSuccessRateError(f"no item could be sent, so nothing was submitted.\n{self.summary}")
        if self.min_success_rate:
            return MissedSuccessRateError(
                f"the success rate is {rate:.2%}, below {self.min_success_rate:.2%}.\n{self.summary}.\nTo accept these "
                "rows, lower min_success_rate"
            )
        return MissedSuccessRateError(f"no request succeeded.\n{self.summary}")


def cancel_overdue(client: SiliconFlowClient, batches: Sequence[Batch]) -> Cancellation:
    """Cancel batches that were still running at the timeout."""
    from siliconflow_provider.api.errors import SiliconFlowError
    from siliconflow_provider.batches import cancel_unless_over

    cancelled: list[str] = []
    failures: list[str] = []
    for overdue in batches:
        try:
            batch = cancel_unless_over(client, overdue.id)
        except SiliconFlowError as error:
            failures.append(str(error))
        else:
            if batch.final_status == "completed":
                failures.append(f"batch {batch.id} completed just before it could be cancelled")
            else:
                cancelled.append(batch.id)
    return Cancellation(cancelled, failures)
