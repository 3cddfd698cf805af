"""`show`: show all of one batch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.cli.arguments import Outcome
from siliconflow_provider.cli.batch_documents import document_of, json_text, table, task_text


def run(options: argparse.Namespace, client: SiliconFlowClient) -> Outcome:
    """Return the batch. The exit code is 1 if it failed, expired or was cancelled."""
    batch = client.get_batch(options.batch_id)
    code = 0 if batch.final_status in (None, "completed") else 1
    document = document_of(batch, client)
    if options.json:
        return Outcome(json_text(document), code)
    lines = [table((name, value) for name, value in _fields_of(document) if value)]
    lines += [f"error: {error}" for error in document["errors"]]
    return Outcome("\n".join(lines), code)


def _fields_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counts, timing = document["requests"], document["timing"]
    yield "id", document["id"]
    yield "status", document["status"]
    yield "task", task_text(document)
    if counts is not None:
        yield (
            "requests",
            f"{counts['total']:,}: {counts['completed']:,} completed, {counts['failed']:,} failed",
        )
    for name in ("completion_window", "endpoint"):
        yield name.replace("_", " "), document[name]
    for name, value in timing.items():
        if value is not None:
            if name.endswith("_seconds"):
                yield f"seconds {name.removesuffix('_seconds')}", f"{round(value):,}"
            else:
                yield name.removesuffix("_at").replace("_", " "), value.replace("T", " ").replace("Z", " UTC")
    for name in ("file_name", "input_file", "output_file", "error_file"):
        yield name.replace("_", " "), document[name]
    for name, value in document["metadata"].items():
        yield f"metadata {name}", value
