"""Operators for single batches: submit one and wait for it, and fetch what it answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from siliconflow_provider.exceptions import BatchWaitError
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID, SiliconFlowHook
from siliconflow_provider.operators.waiting import BatchWaitingMixin, check_waiting_arguments, raise_for_ends

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.jobs.submission import Submission
    from siliconflow_provider.jobs.waiting import WaitEnd


class CreateBatchOperator(BatchWaitingMixin, BaseOperator):
    """Submit an uploaded request file as a batch, and wait for its end.

    Returns the batch id. XCom `batch_id` is there from the moment the service has accepted the batch, XCom
    `timing` once it is over. A retried or cleared task takes its running or completed batch over.

    :param input_file_id: the uploaded file, such as `UploadFileOperator(...).output`
    :param endpoint: what each request asks for; the service runs `/v1/chat/completions`
    :param completion_window: `"24h"` to `"336h"`, or a `timedelta`
    :param metadata: up to 12 pairs of your own, attached to the batch
    :param model: takes the place of the model on every line
    :param wait_for_completion: False returns as soon as the batch is accepted
    :param deferrable: wait in the triggerer (the default, since a window is at least 24 hours) or on the worker
    :param poll_interval: seconds between polls, at least 1; by default 5% of the batch's age, from 10 s to 300 s
    :param timeout: seconds or `timedelta` from the batch's creation until waiting ends; by default an hour after
        its window
    :param submission_key: another value buys a new batch for the same task instance
    :param siliconflow_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = (
        "input_file_id",
        "completion_window",
        "metadata",
        "model",
        "submission_key",
        "siliconflow_conn_id",
    )

    def __init__(
        self,
        *,
        input_file_id: str,
        endpoint: str = "/v1/chat/completions",
        completion_window: str | timedelta = "24h",
        metadata: Mapping[str, str] | None = None,
        model: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float | None = None,
        timeout: float | timedelta | None = None,
        submission_key: str | None = None,
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_waiting_arguments(poll_interval, timeout)
        self.input_file_id = input_file_id
        self.endpoint = endpoint
        self.completion_window = completion_window
        self.metadata = metadata
        self.model = model
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.submission_key = submission_key
        self.siliconflow_conn_id = siliconflow_conn_id

    def execute(self, context: Context) -> str:
        """Submit or take over the batch, and wait unless told not to."""
        from siliconflow_provider.jobs.submission import find_or_create_batch

        batch = find_or_create_batch(self.hook.get_conn(), self._submission(context))
        context["ti"].xcom_push(key="batch_id", value=batch.id)
        if not self.wait_for_completion:
            return batch.id
        result: str = self.wait_for_batches(context, [batch])
        return result

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> str:
        """Return the id of the completed batch, or raise what its end stands for."""
        from siliconflow_provider.jobs.waiting import describe_end

        end = ends[0]
        if end.batch is not None and end.batch.is_terminal:
            self.log.info("%s", describe_end(end.batch))
            context["ti"].xcom_push(key="timing", value=end.batch.timing.to_report())
        raise_for_ends(ends, self.siliconflow_conn_id)
        return end.batch_id

    def _submission(self, context: Context) -> Submission:
        from siliconflow_provider.jobs.submission import Submission, digest
        from siliconflow_provider.operators.identity import identity_label, identity_parts

        return Submission(
            key=digest(*identity_parts(context, self.hook.deployment, self.submission_key)),
            input_file_id=self.input_file_id,
            endpoint=self.endpoint,
            completion_window=self.completion_window,
            model=self.model,
            metadata=self.metadata or {},
            label=identity_label(context),
            max_tries=context["ti"].max_tries,
        )


class DownloadResultsOperator(BaseOperator):
    """Fetch what a batch answered, as `results.jsonl` and `manifest.json`.

    `results.jsonl` has one row for each request that the batch's output or error file mentions, in the order of
    those files. Both files appear whole or not at all. Returns a small summary.

    :param batch_id: a batch that is over, however it ended
    :param output_path: a directory: local, or anything Airflow's object storage takes, such as `s3://bucket/key`
    :param siliconflow_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = ("batch_id", "output_path", "siliconflow_conn_id")

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

    @cached_property
    def hook(self) -> SiliconFlowHook:
        """The hook of this task's connection."""
        return SiliconFlowHook(self.siliconflow_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the two files and return their paths, the counts and the tokens."""
        from siliconflow_provider.storage import storage_path

        client = self.hook.get_conn()
        batch = client.get_batch(self.batch_id)
        _check_delivered(batch)
        directory = storage_path(self.output_path)
        with TemporaryDirectory(prefix="siliconflow-") as staged:
            manifest = self._deliver(client, batch, Path(staged), directory)
        self._log_outcome(batch, manifest)
        return {
            "batch_id": batch.id,
            "results_path": manifest["paths"]["results"],
            "manifest_path": manifest["paths"]["manifest"],
            "rows": manifest["rows"],
            "counts": manifest["counts"],
            "tokens": manifest["tokens"],
        }

    def _deliver(
        self, client: SiliconFlowClient, batch: Batch, staged: Path, directory: ObjectStoragePath
    ) -> dict[str, Any]:
        """Fetch the batch's files, write rows and manifest beside them, and publish both."""
        import msgspec

        from siliconflow_provider.jobs.manifest import Tally, build_manifest
        from siliconflow_provider.jobs.merge import rows_of_batch
        from siliconflow_provider.storage import publish

        targets = {name: directory / name for name in ("results.jsonl", "manifest.json")}
        tally = Tally()
        encode = msgspec.json.Encoder().encode
        output = _fetch(client, batch.output_file_id, staged / "output.jsonl")
        errors = _fetch(client, batch.error_file_id, staged / "errors.jsonl")
        results = staged / "results.jsonl"
        with output.open("rb") as answers, errors.open("rb") as failures, results.open("wb") as rows:
            for row in rows_of_batch(batch.id, answers, failures, tally):
                rows.write(encode(row) + b"\n")
        paths = {"results": str(targets["results.jsonl"]), "manifest": str(targets["manifest.json"])}
        manifest = build_manifest([batch], tally, paths)
        (staged / "manifest.json").write_bytes(msgspec.json.format(encode(manifest), indent=2))
        # The manifest comes last: where it is, the results are.
        for name, target in targets.items():
            publish(staged / name, target)
        return manifest

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


def _check_delivered(batch: Batch) -> None:
    """Raise BatchWaitError while the batch may still deliver something."""
    if not batch.is_terminal:
        raise BatchWaitError(
            f"batch {batch.id} is still {batch.status}, so its results are not complete: run this task after "
            "one that waits for the batch, such as CreateBatchOperator"
        )
    counts = batch.request_counts
    if counts is not None and counts.completed and batch.output_file_id is None:
        raise BatchWaitError(
            f"batch {batch.id} {batch.final_status} with {counts.completed:,} answers, but the service shows no "
            "output file: nothing was written, a retry asks again"
        )


def _fetch(client: SiliconFlowClient, file_ref: str | None, target: Path) -> Path:
    """Download a result file; a batch without one has no such lines."""
    with target.open("wb") as fileobj:
        if file_ref is not None:
            client.download(file_ref, fileobj)
    return target
