"""`batches`: list an account's batches, newest first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import NotFoundError
from siliconflow_provider.api.models import RUNNING_STATUSES, TERMINAL_STATUSES, Batch
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.cli.arguments import Outcome
from siliconflow_provider.cli.batch_documents import document_of, done_text, json_text, table, task_text
from siliconflow_provider.wording import counted

HEADER = ("id", "status", "done", "created (UTC)", "task")


def run(options: argparse.Namespace, client: SiliconFlowClient) -> Outcome:
    """Return the newest batches that match all filters."""
    # The order of the list is not relied on, so all of it is read.
    listed = list(client.list_batches(may_be_empty=True))
    _warn_of_unknown_statuses(options.status or (), listed)
    listed = [batch for batch in listed if _has_status(batch, options)]
    listed = [batch for batch in listed if _is_recent(batch, options.since, client)]
    listed.sort(key=_created_at, reverse=True)
    found = _with_texts(_documents_of(listed, options.since, client), options.dag, options.text)
    shown = list(islice(found, options.limit))
    if next(found, None) is not None:
        print(
            f"shows the newest {counted(len(shown), 'batch')}, and more match: give a larger --limit", file=sys.stderr
        )
    if options.json:
        return Outcome(json_text(shown))
    if not shown:
        print("no batch matches", file=sys.stderr)
        return Outcome("")
    return Outcome(table([HEADER, *map(_row_of, shown)]))


def _warn_of_unknown_statuses(wanted: Iterable[str], listed: Iterable[Batch]) -> None:
    """Warn of filters that are misspelt. A status that a batch has may be new at the service."""
    known = (*RUNNING_STATUSES, *TERMINAL_STATUSES)
    for status in sorted({*wanted}.difference(known, (batch.status for batch in listed))):
        print(f"no batch has the status {printable(status)}; known are {', '.join(known)}", file=sys.stderr)


def _has_status(batch: Batch, options: argparse.Namespace) -> bool:
    if not (options.status or options.running or options.failed):
        return True
    return (
        batch.status in (options.status or ())
        or (options.running and not batch.is_terminal)
        or (options.failed and batch.final_status not in (None, "completed"))
    )


def _is_recent(batch: Batch, since: datetime | timedelta | None, client: SiliconFlowClient) -> bool:
    created_at = batch.timing.created_at
    if since is None or created_at is None:
        return True
    return created_at >= (client.now() - since if isinstance(since, timedelta) else since)


def _created_at(batch: Batch) -> float:
    created_at = batch.timing.created_at
    # A list without times is in the order of the service, which is newest first.
    return float("inf") if created_at is None else created_at.timestamp()


def _documents_of(
    listed: Iterable[Batch], since: datetime | timedelta | None, client: SiliconFlowClient
) -> Iterator[dict[str, Any]]:
    """Yield the documents of recent batches. Ask for a batch if the list lacks its metadata or its time."""
    for batch in listed:
        if not batch.metadata or batch.timing.created_at is None:
            # Unknown to the service if it was deleted since, or the list is late.
            with suppress(NotFoundError):
                batch = client.get_batch(batch.id)
        if _is_recent(batch, since, client):
            yield document_of(batch, client)


def _with_texts(documents: Iterable[dict[str, Any]], dag: str | None, text: str | None) -> Iterator[dict[str, Any]]:
    for document in documents:
        if dag is not None and (document["task"] or {}).get("dag_id") != dag:
            continue
        texts = (document["id"], document["status"], document["file_name"] or "", *document["metadata"].values())
        if text is None or any(text.casefold() in shown.casefold() for shown in texts):
            yield document


def _row_of(document: dict[str, Any]) -> tuple[str, ...]:
    created_at = document["timing"]["created_at"] or ""
    return (
        document["id"],
        document["status"],
        done_text(document),
        created_at.replace("T", " ").removesuffix("Z"),
        task_text(document),
    )
