"""Write the results of a batch that has ended to a task's `output_path`."""

from __future__ import annotations

import logging
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.exceptions import BatchWaitError, OutputPathError
from siliconflow_provider.job_directory import JobFilesError
from siliconflow_provider.jobs import download_results
from siliconflow_provider.links import REPORT_KEY
from siliconflow_provider.storage import Workspace, storage_path, temporary_directory, temporary_disk
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)


def write_results(
    client: SiliconFlowClient, batch: Batch, output_path: str, label: str, *, is_cleared: bool
) -> dict[str, Any]:
    """Write the files, log their content, and return the manifest.

    :param label: the task instance, as people read it
    :param is_cleared: True if a person has cleared the task
    :raises BatchWaitError: if the batch has not ended
    :raises OutputPathError: if the files at `output_path` cannot be read
    """
    if not batch.is_terminal:
        raise BatchWaitError(
            f"batch {batch.id} is still {batch.status}, so its results are incomplete: run this task after a task "
            "that waits for the batch, such as CreateBatchOperator"
        )
    with temporary_disk(), temporary_directory() as local:
        files = Workspace(storage_path(output_path), local)
        try:
            manifest = download_results(client, batch, files, label, is_cleared=is_cleared)
        except JobFilesError as error:
            raise OutputPathError(str(error)) from None
    _log_rows(batch, manifest)
    return manifest


def summary_of(batch: Batch, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the task's XCom: the paths of the files, the counts and the tokens."""
    return {
        "batch_id": batch.id,
        "results_path": manifest["paths"]["results"],
        "manifest_path": manifest["paths"]["manifest"],
        **({REPORT_KEY: manifest["paths"]["report"]} if "report" in manifest["paths"] else {}),
        "rows": manifest["rows"],
        "counts": manifest["counts"],
        "tokens": manifest["tokens"],
    }


def _log_rows(batch: Batch, manifest: dict[str, Any]) -> None:
    counts = ", ".join(f"{count:,} {status}" for status, count in manifest["counts"].items())
    log.info(
        "wrote %s (%s) of batch %s to %s",
        counted(manifest["rows"], "row"), counts or "none", batch.id, manifest["paths"]["results"],
    )  # fmt: skip
    total = batch.request_counts.total if batch.request_counts is not None else 0
    if total > manifest["rows"]:
        log.warning(
            "results lack %s of %s of batch %s (%s): neither of its files mentions them",
            f"{total - manifest['rows']:,}", counted(total, "request"), batch.id, batch.final_status,
        )  # fmt: skip
