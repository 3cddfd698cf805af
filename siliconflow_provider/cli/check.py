"""`check`: check input files as a job does before it submits them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from typing import Any

from siliconflow_provider.api.redaction import without_queries
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.cli.arguments import Outcome
from siliconflow_provider.cli.batch_documents import json_text
from siliconflow_provider.cli.input_files import builder_of, items_of, shown_name
from siliconflow_provider.inputs import ESTIMATE, InvalidRequestFileError, RequestBuilder, prepare
from siliconflow_provider.wording import counted


def run(options: argparse.Namespace, client: None) -> Outcome:
    """Return the number of requests and the first problems of each file. The exit code is 1 if there is a problem."""
    builder = builder_of(options)
    documents = [_check(name, builder, options.limit) for name in options.files]
    code = 0 if all(document["valid"] for document in documents) else 1
    return Outcome(json_text(documents) if options.json else "\n".join(map(_text_of, documents)), code)


def _check(name: str, builder: RequestBuilder, limit: int | None) -> dict[str, Any]:
    shown = shown_name(name)
    with tempfile.TemporaryFile() as requests, tempfile.TemporaryFile() as rows, tempfile.TemporaryFile() as rejected:
        try:
            # Invalid items are counted as those that a job with bad_items="skip" would leave out.
            prepared = prepare(
                items_of(name, limit), builder, requests, rows, name=shown, purpose=ESTIMATE, rejected=rejected
            )
        except (InvalidRequestFileError, OSError) as error:
            return _document(shown, problems=without_queries(str(error)).split("\n  "))
    return _document(
        shown,
        requests=prepared.requests,
        invalid=len(prepared.rejected),
        parts=len(prepared.parts),
        model=prepared.model,
        problems=prepared.reasons,
    )


def _document(name: str, **fields: Any) -> dict[str, Any]:
    unknown = {"requests": None, "invalid": None, "parts": None, "model": None}
    problems = list(fields.pop("problems"))
    return {"file": name, "valid": not problems, **unknown, **fields, "problems": problems}


def _text_of(document: Mapping[str, Any]) -> str:
    if document["requests"] is None:
        return "\n  ".join(map(printable, document["problems"]))
    found = f"{counted(document['requests'], 'request')} in {counted(document['parts'], 'part')}"
    model = f", model {document['model']}" if document["model"] else ""
    name = document["file"]
    if document["valid"]:
        return f"{name}: {found}{model}"
    items = document["requests"] + document["invalid"]
    verb = "is" if document["invalid"] == 1 else "are"
    first = f"{name}: {document['invalid']:,} of {counted(items, 'item')} {verb} invalid; {found}{model}"
    return "\n  ".join([first, *document["problems"]])
