"""Operators for a single batch: submit it and wait for it, cancel it, download its results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from siliconflow_provider import metrics
from siliconflow_provider.exceptions import InvalidArgumentError, SubmissionStoppedError
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.links import LINKS_TO_RESULTS, BatchesLink, ReportLink
from siliconflow_provider.operators.arguments import as_path_text
from siliconflow_provider.operators.base import BatchOperator
from siliconflow_provider.operators.connection import ConnectionMixin
from siliconflow_provider.operators.final_errors import check_argument_id, final_if_refused, invalid_arguments
from siliconflow_provider.operators.reporting import ReportingMixin
from siliconflow_provider.verdicts import raise_for_ends
from siliconflow_provider.xcoms import push_xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.batches import Submission
    from siliconflow_provider.waiting import WaitEnd


class CreateBatchOperator(BatchOperator):
    """Submit an uploaded request file as a batch, and wait until the batch has ended.

    Returns the batch id. The task pushes XCom `batch_id` as soon as the service has accepted the batch, and XCom
    `timing` when the batch has ended. A retried or cleared task resumes its running or completed batch.

    :param input_file_id: id of the uploaded file, such as `UploadFileOperator(...).output`
    :param endpoint: endpoint of all requests; the service supports `/v1/chat/completions`
    :param model: model for all requests; it replaces the model on each line of the file
    :param wait_for_completion: False returns as soon as the service has accepted the batch
    :param kwargs: see `BatchOperator`; `metadata` may have up to 11 pairs
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

    @final_if_refused
    def execute(self, context: Context) -> str:
        """Submit or resume the batch, and wait for it if `wait_for_completion` is set."""
        client = self.hook.get_conn()
        BatchesLink.persist(context, self)
        batch = self._submit(context, client)
        if not self.wait_for_completion:
            self._raise_if_changed(context, batch)
            return batch.id
        result: str = self.wait_for_batches(context, [batch])
        return result

    def _submit(self, context: Context, client: SiliconFlowClient) -> Batch:
        from siliconflow_provider.batches import UnsafeSubmitError, submit
        from siliconflow_provider.operators.state_store import create_records_of

        submission = self._submission(context)
        with invalid_arguments():
            submission.check()
        records = create_records_of(context)
        created: list[Batch] = []
        try:
            batch = submit(client, submission, records, partial(self._announce, context), created.append)
        except UnsafeSubmitError as error:
            raise SubmissionStoppedError(str(error)) from None
        finally:
            metrics.count_created(context, len(created))
        metrics.count_resumed(context, int(not created))
        return batch

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> str:
        """Return the id of the completed batch, or raise the error for its status."""
        from siliconflow_provider.operators.state_store import write_progress
        from siliconflow_provider.waiting import describe_end

        end = ends[0]
        write_progress(context, [end.batch], self.hook.get_conn().now())
        older = self._find_older_batch(context, end.batch_id)
        if older is not None:
            self._announce(context, older)
            result: str = self.wait_for_batches(context, [older])
            return result
        if end.batch is not None and end.batch.is_terminal:
            self.log.info("%s", describe_end(end.batch))
            push_xcom(context, "timing", end.batch.timing.to_report())
            metrics.count_ended(context, end.batch)
        raise_for_ends(ends, self.siliconflow_conn_id)
        if end.batch is not None:
            self._raise_if_changed(context, end.batch)
        return end.batch_id

    def _raise_if_changed(self, context: Context, batch: Batch) -> None:
        """Raise SubmissionStoppedError if the batch was resumed although the task's arguments have changed."""
        submission = self._submission(context)
        if submission.is_owner(batch) and not submission.matches(batch):
            raise SubmissionStoppedError(
                f"the task's {' and '.join(submission.changes_since(batch))} changed since batch {batch.id} "
                f"({batch.status}) was created, and a retry does not submit a second batch.\nUndo the change, or clear "
                "the task to submit a batch with the new value"
            )

    def _announce(self, context: Context, batch: Batch) -> None:
        push_xcom(context, "batch_id", batch.id)

    def _find_older_batch(self, context: Context, batch_id: str) -> Batch | None:
        """Return an older batch of a concurrent attempt, after cancelling the duplicates; None if there is none."""
        from siliconflow_provider.api.errors import SiliconFlowError
        from siliconflow_provider.batches import find_and_cancel_duplicates
        from siliconflow_provider.operators.state_store import create_records_of

        client = self.hook.get_conn()
        try:
            batch = client.get_batch(batch_id)
        except SiliconFlowError as error:
            self.log.warning("could not check for a duplicate batch of this task: %s", error)
            return None
        older: Batch | None = find_and_cancel_duplicates(
            client, self._submission(context), create_records_of(context), batch
        )
        return older

    def _submission(self, context: Context) -> Submission:
        from siliconflow_provider.batches import sha256_of_file

        check_argument_id("input_file_id", self.input_file_id)
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
    """Cancel one batch, or all running batches of this DAG run.

    Returns the ids of the cancelled batches. Requests that are already answered are billed; the service keeps their
    answers for 30 days. Batches that have ended are not changed.

    Without `batch_id`, use it as a teardown task. It finds the run's batches by their metadata, even if the task that
    submitted them was killed. The connection must then have a `deployment`: it distinguishes this Airflow from others
    on the same account, whose DAG runs may have the same ids.

    :param batch_id: id of the batch; without it, all running batches of this DAG run are cancelled
    :param siliconflow_conn_id: id of the Airflow connection
    """

    template_fields: Sequence[str] = ("batch_id", "siliconflow_conn_id")
    operator_extra_links = (BatchesLink(),)

    def __init__(
        self, *, batch_id: str | None = None, siliconflow_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        # A template that renders to None must not cancel the batches of the whole run.
        self._is_whole_run = batch_id is None
        self.batch_id = batch_id
        self.siliconflow_conn_id = siliconflow_conn_id

    @final_if_refused
    def execute(self, context: Context) -> list[str]:
        """Cancel the batches, and log the outcome of each."""
        from siliconflow_provider.batches import cancel

        client = self.hook.get_conn()
        BatchesLink.persist(context, self)
        cancelled = []
        for batch_id in self._batch_ids(context):
            batch, was_running = cancel(client, batch_id)
            if not was_running:
                self.log.info("batch %s has already ended: %s", batch.id, batch.final_status)
            else:
                self.log.info("batch %s is %s; its answered requests are billed", batch.id, batch.status)
                cancelled.append(batch.id)
        return cancelled

    def _batch_ids(self, context: Context) -> list[str]:
        from siliconflow_provider.operators.run_batches import find_batches_of_run

        if self.batch_id:
            check_argument_id("batch_id", self.batch_id)
            return [self.batch_id]
        if not self._is_whole_run or context["ti"].map_index not in (None, -1):
            raise InvalidArgumentError(
                f"batch_id is {self.batch_id!r}: give the id of a batch. To cancel all running batches of the DAG run, "
                "use an unmapped task without batch_id"
            )
        return [batch.id for batch in find_batches_of_run(context, self.hook, self.siliconflow_conn_id)]


class DownloadResultsOperator(ReportingMixin, ConnectionMixin, BaseOperator):
    """Write the results of a batch as `results.jsonl`, `report.html` and `manifest.json`.

    `results.jsonl` has one row for each request that the batch's output or error file mentions, in the order of
    those files. Each file is written completely or not at all, and never replaces a file that this task instance has
    not written. Incomplete results are downloaded again for up to ten minutes. Returns a small summary.

    :param batch_id: id of a batch that has ended, whether it completed or not
    :param output_path: a directory for this task instance alone: a local path, or any URL of Airflow's object
        storage, such as `s3://bucket/key`
    :param siliconflow_conn_id: id of the Airflow connection
    """

    template_fields: Sequence[str] = ("batch_id", "output_path", "siliconflow_conn_id")
    operator_extra_links = LINKS_TO_RESULTS

    def __init__(
        self,
        *,
        batch_id: str,
        output_path: str | os.PathLike[str],
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.output_path = as_path_text(output_path)
        self.siliconflow_conn_id = siliconflow_conn_id

    @final_if_refused
    def execute(self, context: Context) -> dict[str, Any]:
        """Write the files and return their paths, the counts and the tokens."""
        from siliconflow_provider.operators.downloads import summary_of, write_results
        from siliconflow_provider.operators.identity import attempt_fields, identity_label

        check_argument_id("batch_id", self.batch_id)
        client = self.hook.get_conn()
        BatchesLink.persist(context, self)
        batch = client.get_batch(self.batch_id)
        is_cleared = attempt_fields(context, int(self.retries or 0))["is_cleared_try"]
        manifest = write_results(client, batch, self.output_path, identity_label(context), is_cleared=is_cleared)
        self.report_results(context, manifest)
        # The task that waited for the batch has counted its end.
        metrics.count_results(context, {"batches": manifest["batches"]}, manifest)
        summary = summary_of(batch, manifest)
        ReportLink.show(self, summary)
        return summary
