"""Operators for single batches: submit one and wait for it, cancel it, and fetch what it answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from siliconflow_provider.exceptions import (
    BatchWaitError,
    InvalidConnectionError,
    OutputPathError,
    SubmissionStoppedError,
)
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.links import BatchesLink
from siliconflow_provider.operators.base import BatchOperator
from siliconflow_provider.operators.connection import ConnectionMixin
from siliconflow_provider.verdicts import raise_for_ends

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.batches import Submission
    from siliconflow_provider.waiting import WaitEnd


class CreateBatchOperator(BatchOperator):
    """Submit an uploaded request file as a batch, and wait for its end.

    Returns the batch id. XCom `batch_id` is there from the moment the service has accepted the batch, XCom
    `timing` once it is over. A retried or cleared task resumes its running or completed batch.

    :param input_file_id: the uploaded file, such as `UploadFileOperator(...).output`
    :param endpoint: of each request; the service runs `/v1/chat/completions`
    :param model: takes the place of the model on every line
    :param wait_for_completion: False returns as soon as the batch is accepted
    :param kwargs: see `BatchOperator`; `metadata` may have 11 pairs
    """

    template_fields: Sequence[str] = ("input_file_id", *BatchOperator.template_fields)

    def __init__(
        self,
        *,
        input_file_id: str,
        endpoint: str = "/v1/chat/completions",
        wait_for_completion: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._content_sha256: str | None = None
        self.input_file_id = input_file_id
        self.endpoint = endpoint
        self.wait_for_completion = wait_for_completion

    def execute(self, context: Context) -> str:
        """Submit or take over the batch, and wait unless told not to."""
        client = self.hook.get_conn()
        BatchesLink.persist(context, client.base_url)
        batch = self._submit(context, client)
        if not self.wait_for_completion:
            self._raise_if_changed(context, batch)
            return batch.id
        result: str = self.wait_for_batches(context, [batch])
        return result

    def _submit(self, context: Context, client: SiliconFlowClient) -> Batch:
        from siliconflow_provider.batches import PossibleDuplicateError, submit
        from siliconflow_provider.operators.state_store import create_records_of

        submission = self._submission(context)
        try:
            return submit(client, submission, create_records_of(context), lambda each: self._announce(context, each))
        except PossibleDuplicateError as error:
            raise SubmissionStoppedError(str(error)) from None

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> str:
        """Return the id of the completed batch, or raise what its end stands for."""
        from siliconflow_provider.waiting import describe_end

        end = ends[0]
        older = self._find_older_batch(context, end.batch_id)
        if older is not None:
            self._announce(context, older)
            result: str = self.wait_for_batches(context, [older])
            return result
        if end.batch is not None and end.batch.is_terminal:
            self.log.info("%s", describe_end(end.batch))
            context["ti"].xcom_push(key="timing", value=end.batch.timing.to_report())
        raise_for_ends(ends, self.siliconflow_conn_id)
        if end.batch is not None:
            self._raise_if_changed(context, end.batch)
        return end.batch_id

    def _raise_if_changed(self, context: Context, batch: Batch) -> None:
        """Raise SubmissionStoppedError when the batch was taken over although the task asks for something else."""
        submission = self._submission(context)
        if submission.is_owner(batch) and not submission.matches(batch):
            raise SubmissionStoppedError(
                f"the task's {' and '.join(submission.changes_since(batch))} changed since batch {batch.id} "
                f"({batch.status}) was created, and a retry submits no second one. Clear the task to submit what it "
                "asks for now, or undo the change"
            )

    def _announce(self, context: Context, batch: Batch) -> None:
        context["ti"].xcom_push(key="batch_id", value=batch.id)

    def _find_older_batch(self, context: Context, batch_id: str) -> Batch | None:
        """Look once more for the batch of an attempt that ran at the same time."""
        from siliconflow_provider.api.errors import SiliconFlowError
        from siliconflow_provider.batches import find_and_cancel_duplicates
        from siliconflow_provider.operators.state_store import create_records_of

        client = self.hook.get_conn()
        try:
            batch = client.get_batch(batch_id)
        except SiliconFlowError as error:
            self.log.warning("could not look for an older batch of this task: %s", error)
            return None
        older: Batch | None = find_and_cancel_duplicates(
            client, self._submission(context), create_records_of(context), batch
        )
        return older

    def _submission(self, context: Context) -> Submission:
        from siliconflow_provider.batches import sha256_of_file

        if self._content_sha256 is None:
            self._content_sha256 = sha256_of_file(self.hook.get_conn(), self.input_file_id)
        return self.submission(
            context,
            input_file_id=self.input_file_id,
            endpoint=self.endpoint,
            model=self.model,
            content_sha256=self._content_sha256,
        )


class CancelBatchOperator(ConnectionMixin, BaseOperator):
    """Cancel a batch, or whatever of this DAG run still runs; returns the ids of what was cancelled.

    What a batch has answered is billed and kept for 30 days. A batch that is over is left as it is. Without a
    `batch_id` it fits a teardown task: what the run's tasks have submitted is found by what the batches say of
    themselves, also when the task that submitted them has died. That needs a connection with a `deployment`, which
    tells this Airflow from others on the same account: their scheduled runs have equal ids.

    :param batch_id: the batch; leave it out for whatever of this DAG run still runs
    :param siliconflow_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = ("batch_id", "siliconflow_conn_id")
    operator_extra_links = (BatchesLink(),)

    def __init__(
        self, *, batch_id: str | None = None, siliconflow_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        # A value that is rendered to None later must not turn into the whole run.
        self._is_whole_run = batch_id is None
        self.batch_id = batch_id
        self.siliconflow_conn_id = siliconflow_conn_id

    def execute(self, context: Context) -> list[str]:
        """Cancel, and say what became of each batch."""
        from siliconflow_provider.batches import cancel

        client = self.hook.get_conn()
        BatchesLink.persist(context, client.base_url)
        cancelled = []
        for batch_id in self._batch_ids(context):
            batch, still_ran = cancel(client, batch_id)
            if not still_ran:
                self.log.info("batch %s is over already: it is %s", batch.id, batch.final_status)
            else:
                self.log.info("batch %s is %s; what it has answered is billed", batch.id, batch.status)
                cancelled.append(batch.id)
        return cancelled

    def _batch_ids(self, context: Context) -> list[str]:
        from siliconflow_provider.api.errors import InvalidRequestError

        if self.batch_id:
            return [self.batch_id]
        if not self._is_whole_run or context["ti"].map_index not in (None, -1):
            raise InvalidRequestError(
                f"batch_id is {self.batch_id!r}: the task that should name a batch has named none. Cancelling whatever "
                "of the DAG run still runs is for a task without batch_id that is not mapped"
            )
        return [each.id for each in self._batches_of_run(context)]

    def _batches_of_run(self, context: Context) -> list[Batch]:
        """Return the batches of this DAG run that still run.

        :raises InvalidConnectionError: when they cannot be told from those of another Airflow
        """
        from siliconflow_provider.api.service_texts import first_names
        from siliconflow_provider.batches import digest, find_running_by_dag_run
        from siliconflow_provider.operators.identity import run_parts

        runs = [digest(*run_parts(context, each)) for each in (self.hook.deployment, "")]
        found, unnamed = find_running_by_dag_run(self.hook.get_conn(), *runs)
        said = first_names(each.id for each in unnamed) or "none"
        if not self.hook.deployment:
            raise InvalidConnectionError(
                f"connection {self.siliconflow_conn_id!r} has no deployment, so the batches of this DAG run cannot be "
                "told from those of another Airflow on the same account that has a run of this id: nothing was "
                'cancelled. Set a deployment in the connection\'s form, or as {"deployment": "production"} in its '
                "extra, another one in each Airflow; or give batch_id. Running batches of a run of this id: "
                f"{said}"
            )
        self.log.info("batches of this DAG run that still run: %s", first_names(each.id for each in found) or "none")
        self._warn_of_earlier(context, found)
        if unnamed:
            self.log.warning(
                "not cancelled: %s of a run of this id, submitted over a connection without deployment, by this "
                "Airflow or another one. Where they are this run's, give CancelBatchOperator their batch_id",
                said,
            )
        return found

    def _warn_of_earlier(self, context: Context, batches: Sequence[Batch]) -> None:
        """Warn of batches that were created before the DAG run began."""
        started_at = getattr(context.get("dag_run"), "start_date", None)
        for each in batches:
            created_at = each.timing.created_at
            # The service's times are of whole seconds.
            if started_at and created_at and created_at.timestamp() < int(started_at.timestamp()):
                self.log.warning(
                    "batch %s was created at %s, before this DAG run began at %s: either the run was cleared since, or "
                    "another Airflow on this account has deployment %r too and the batch is its own. It is cancelled",
                    each.id, created_at, started_at, self.hook.deployment,
                )  # fmt: skip


class DownloadResultsOperator(ConnectionMixin, BaseOperator):
    """Fetch what a batch answered, as `results.jsonl` and `manifest.json`.

    `results.jsonl` has one row for each request that the batch's output or error file mentions, in the order of
    those files. Both files appear whole or not at all, and never in place of files that this task instance has not
    written. Results that are not complete yet are asked for again for ten minutes. Returns a small summary.

    :param batch_id: a batch that is over, however it ended
    :param output_path: a directory of this task instance: local, or anything Airflow's object storage takes, such as
        `s3://bucket/key`
    :param siliconflow_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = ("batch_id", "output_path", "siliconflow_conn_id")
    operator_extra_links = (BatchesLink(),)

    def __init__(
        self,
        *,
        batch_id: str,
        output_path: str,
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.output_path = output_path
        self.siliconflow_conn_id = siliconflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the two files and return their paths, the counts and the tokens."""
        from siliconflow_provider.job_directory import JobFilesError
        from siliconflow_provider.jobs import download_results
        from siliconflow_provider.operators.identity import attempt_fields, identity_label
        from siliconflow_provider.storage import Workspace, storage_path, temporary_directory, temporary_disk

        client = self.hook.get_conn()
        BatchesLink.persist(context, client.base_url)
        batch = client.get_batch(self.batch_id)
        _check_over(batch)
        with temporary_disk(), temporary_directory() as local:
            files = Workspace(storage_path(self.output_path), local)
            try:
                is_cleared = attempt_fields(context, int(self.retries or 0))["is_cleared_try"]
                manifest = download_results(client, batch, files, identity_label(context), is_cleared=is_cleared)
            except JobFilesError as error:
                raise OutputPathError(str(error)) from None
        self._log_outcome(batch, manifest)
        return {
            "batch_id": batch.id,
            "results_path": manifest["paths"]["results"],
            "manifest_path": manifest["paths"]["manifest"],
            "rows": manifest["rows"],
            "counts": manifest["counts"],
            "tokens": manifest["tokens"],
        }

    def _log_outcome(self, batch: Batch, manifest: dict[str, Any]) -> None:
        counts = ", ".join(f"{count:,} {status}" for status, count in manifest["counts"].items())
        self.log.info(
            "wrote %d rows (%s) of batch %s to %s",
            manifest["rows"], counts or "none", batch.id, manifest["paths"]["results"],
        )  # fmt: skip
        total = batch.request_counts.total if batch.request_counts is not None else 0
        if total > manifest["rows"]:
            self.log.warning(
                "%d of %d requests of batch %s (%s) are in neither of its files",
                total - manifest["rows"], total, batch.id, batch.final_status,
            )  # fmt: skip


def _check_over(batch: Batch) -> None:
    """Raise BatchWaitError while the batch runs."""
    if not batch.is_terminal:
        raise BatchWaitError(
            f"batch {batch.id} is still {batch.status}, so its results are not complete: run this task after "
            "one that waits for the batch, such as CreateBatchOperator"
        )
