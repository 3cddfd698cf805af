"""`cancel`: cancel batches, after asking."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.batches import cancel
from siliconflow_provider.cli.arguments import Outcome, usage_error
from siliconflow_provider.cli.batch_documents import document_of, done_text, json_text, table, task_text
from siliconflow_provider.wording import counted


def run(options: argparse.Namespace, client: SiliconFlowClient) -> Outcome:
    """Cancel the batches that still run, and return their new state.

    The exit code is 1 if the user declines, or if a batch could not be cancelled.
    """
    # All are asked for before the first is cancelled, so that a wrong id cancels nothing.
    batches = {batch_id: client.get_batch(batch_id) for batch_id in options.batch_ids}
    running = {batch_id: batch for batch_id, batch in batches.items() if not batch.is_terminal}
    if running and not options.yes and not _confirms(running.values(), client):
        print("nothing was cancelled", file=sys.stderr)
        return Outcome("", 1)
    failed = []
    for batch_id in running:
        try:
            batches[batch_id], _ = cancel(client, batch_id)
        except SiliconFlowError as error:
            # The others are still cancelled: each one that runs is billed.
            failed.append(batch_id)
            print(f"could not cancel batch {printable(batch_id)}: {printable(str(error))}", file=sys.stderr)
    code = 1 if failed else 0
    documents = {batch_id: document_of(batch, client) for batch_id, batch in batches.items()}
    if options.json:
        return Outcome(json_text(list(documents.values())), code)
    return Outcome("\n".join(_text_of(documents[batch_id]) for batch_id in batches if batch_id not in failed), code)


def _confirms(running: Iterable[Batch], client: SiliconFlowClient) -> bool:
    """Show the batches, and return True if the user agrees."""
    if not sys.stdin.isatty():
        raise usage_error("cannot ask: standard input is not a terminal; give --yes")
    documents = [document_of(batch, client) for batch in running]
    rows = [(each["id"], each["status"], done_text(each), task_text(each)) for each in documents]
    question = f"Cancel {counted(len(rows), 'batch')}? Answered requests are billed. [y/N] "
    print(f"{table(rows)}\n{question}", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _text_of(document: Mapping[str, Any]) -> str:
    if document["final_status"] is None:
        return f"batch {document['id']} is {document['status']}; its answered requests are billed"
    return f"batch {document['id']} has ended: {document['final_status']}"
