"""`download`: write the results of a batch, as `DownloadResultsOperator` does."""

from __future__ import annotations

import argparse
import io
import logging
import os
from collections.abc import Callable
from typing import IO, Any, cast

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.cli.arguments import INTERRUPTED, Outcome
from siliconflow_provider.cli.batch_documents import document_of, done_text, json_text, without_secrets
from siliconflow_provider.cli.progress import progress_bar
from siliconflow_provider.jobs import download_results
from siliconflow_provider.outputs import OutputConflictError
from siliconflow_provider.storage import Workspace, storage_path, temporary_directory, temporary_disk
from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)

REMEDY = (
    "nothing was written. Run the command again; with --incomplete, it writes the results that the service still has"
)


def run(options: argparse.Namespace, client: SiliconFlowClient) -> Outcome:
    """Write the results, and return their path and counts. The exit code is 1 if the batch did not complete.

    :raises ValueError: if the batch is still running, or the directory has files of others
    """
    batch = client.get_batch(options.batch_id)
    if not batch.is_terminal:
        done = done_text(document_of(batch, client)) or "unknown"
        raise ValueError(
            f"batch {batch.id} is still {batch.status} (requests done: {done}): download it when it is over"
        )
    try:
        manifest = _write_results(batch, options, client)
    except OutputConflictError:
        raise ValueError(
            f"{options.output} holds results of another batch or files of others, which are not overwritten: "
            "give another directory as --output"
        ) from None
    except KeyboardInterrupt:
        # Python would wait for the threads that download. Temporary files are removed already.
        os._exit(INTERRUPTED)
    _warn_of_missing(batch, manifest)
    code = 0 if batch.final_status == "completed" else 1
    fields = {
        "batch_id": batch.id,
        "final_status": batch.final_status,
        "results_path": manifest["paths"]["results"],
        "manifest_path": manifest["paths"]["manifest"],
        "rows": manifest["rows"],
        "counts": manifest["counts"],
        "tokens": manifest["tokens"],
    }
    document = without_secrets(fields, client)
    if options.json:
        return Outcome(json_text(document), code)
    counts = ", ".join(f"{count:,} {status}" for status, count in manifest["counts"].items())
    text = f"wrote {counted(manifest['rows'], 'row')} ({counts or 'none'}) to {document['results_path']}"
    return Outcome(text if code == 0 else f"{text}; batch {document['batch_id']} is {batch.final_status}", code)


def _write_results(batch: Batch, options: argparse.Namespace, client: SiliconFlowClient) -> dict[str, Any]:
    """Write the results, and return their manifest."""
    with temporary_disk(), temporary_directory() as local, progress_bar(f"batch {batch.id}") as advance:
        files = _CountedWorkspace(storage_path(options.output, "--output"), local, "--output")
        files.advance = advance
        owner = f"python -m siliconflow_provider download {batch.id}"
        return download_results(client, batch, files, owner, is_cleared=options.incomplete, remedy=REMEDY)


def _warn_of_missing(batch: Batch, manifest: dict[str, Any]) -> None:
    total = batch.request_counts.total if batch.request_counts is not None else 0
    if total > manifest["rows"]:
        log.warning(
            "results lack %s of %s: neither of the batch's files mentions them",
            f"{total - manifest['rows']:,}", counted(total, "request"),
        )  # fmt: skip


class _CountedWorkspace(Workspace):
    """A workspace that counts the bytes that are written to its local files."""

    advance: Callable[[int], None]

    def create(self, name: str) -> IO[bytes]:
        """Open a new local file for writing and reading."""
        file = _CountedFile(cast(Any, super().create(name)).detach())
        file.advance = self.advance
        return file


class _CountedFile(io.BufferedRandom):
    advance: Callable[[int], None]

    def write(self, block: Any) -> int:
        self.advance(len(block))
        return super().write(block)
