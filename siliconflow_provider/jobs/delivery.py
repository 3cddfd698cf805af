"""The results of batches, fetched and written to a local directory."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.answers import parse_answer
from siliconflow_provider.jobs.blocks import blocks_of, pieces_of
from siliconflow_provider.jobs.files import MANIFEST, RESULTS
from siliconflow_provider.jobs.manifest import Tally, build_manifest
from siliconflow_provider.jobs.merge import rows_of_batch

SAMPLED_LINES = 100


def stage_results(client: SiliconFlowClient, batch: Batch, directory: Path, paths: dict[str, str]) -> dict[str, Any]:
    """Write a batch's rows and manifest into a local directory, and return the manifest.

    :param directory: has room for the batch's files and its rows
    :param paths: where `results` and `manifest` are going to be, for the manifest
    """
    tally = Tally()
    encode = msgspec.json.Encoder().encode
    output = _fetch(client, batch.output_file_id, directory / "output.jsonl")
    errors = _fetch(client, batch.error_file_id, directory / "errors.jsonl")
    with output.open("rb") as answers, errors.open("rb") as failures, (directory / RESULTS).open("wb") as rows:
        for row in rows_of_batch(batch.id, blocks_of(pieces_of(answers)), blocks_of(pieces_of(failures)), tally):
            rows.write(encode(row) + b"\n")
    manifest = build_manifest([batch], tally, paths)
    (directory / MANIFEST).write_bytes(msgspec.json.format(encode(manifest), indent=2))
    return manifest


def download_answers(client: SiliconFlowClient, file_ref: str, fileobj: IO[bytes], name: str) -> None:
    """Download a result file and go back to its beginning.

    :param name: the file in messages
    :raises UnreadableAnswerError: when what came is no result file, such as a proxy's page
    """
    client.download(file_ref, fileobj)
    fileobj.seek(0)
    lines = [line for line in islice(fileobj, SAMPLED_LINES) if line.strip()]
    if lines and not any(map(_is_answer, lines)):
        raise UnreadableAnswerError(
            f"what came as {name} has no line of a result file: nothing was written, a retry asks again"
        )
    fileobj.seek(0)


def _fetch(client: SiliconFlowClient, file_ref: str | None, target: Path) -> Path:
    """Download a result file; a batch without one has no such lines."""
    with target.open("w+b") as fileobj:
        if file_ref is not None:
            download_answers(client, file_ref, fileobj, target.name)
    return target


def _is_answer(line: bytes) -> bool:
    try:
        parse_answer(line, "")
    except msgspec.DecodeError:
        return False
    return True
