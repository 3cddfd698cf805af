"""Download the output and error file of a batch to the local disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import IO

import msgspec

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import ServiceError, UnreadableAnswerError
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jsonl import LONGEST_LINE, line_blocks, read_chunks, read_lines
from siliconflow_provider.outputs.answers import parse_answer
from siliconflow_provider.outputs.completeness import FileContents, ResultContents, contents_of

log = logging.getLogger(__name__)

SAMPLED_LINES = 100
# A batch may show its counts and files some time after its final status.
DELIVERY_TIME = timedelta(minutes=10)
FIRST_PAUSE = 2.0
GONE = (404, 410)


@dataclass(frozen=True)
class ResultFiles:
    """The result files of a batch on the local disk; a missing file is empty. Close them after use.

    :param gone: the error if the service does not find a file; the file is empty then
    """

    batch: Batch
    output: IO[bytes]
    errors: IO[bytes]
    contents: ResultContents
    gone: ServiceError | None

    def close(self) -> None:
        """Close the files."""
        self.output.close()
        self.errors.close()

    def blocks(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield each file's name in messages, and its lines."""
        for name, file in (("output", self.output), ("error", self.errors)):
            file.seek(0)
            yield name, line_blocks(read_chunks(file), LONGEST_LINE)


def download_result_files(client: SiliconFlowClient, batch: Batch, create: Callable[[str], IO[bytes]]) -> ResultFiles:
    """Download the result files of a batch.

    :param create: opens a new local file for the `output` or `error` file
    :raises UnreadableAnswerError: if the response is no result file
    """
    with ExitStack() as stack:
        files: list[IO[bytes]] = []
        contents: list[FileContents] = []
        gone: ServiceError | None = None
        for name, file_ref in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            file = stack.enter_context(create(name))
            if file_ref is not None:
                try:
                    _download(client, file_ref, file, f"the {name} file of {batch.id}")
                except ServiceError as error:
                    if error.status not in GONE:
                        raise
                    gone = error
                    file.truncate(0)
            file.seek(0)
            files.append(file)
            contents.append(contents_of(line_blocks(read_chunks(file), LONGEST_LINE)))
        stack.pop_all()
    return ResultFiles(batch, files[0], files[1], ResultContents(*contents), gone)


def _download(client: SiliconFlowClient, file_ref: str, fileobj: IO[bytes], name: str) -> None:
    """Download a result file.

    :param name: the file's name in messages
    :raises UnreadableAnswerError: if the response is no result file, such as a proxy's page
    """
    client.download(file_ref, fileobj)
    fileobj.seek(0)
    lines = [line for line in islice(read_lines(fileobj), SAMPLED_LINES) if line.strip()]
    if lines and not any(map(_is_answer, lines)):
        raise UnreadableAnswerError(f"the response for {name} has no line of a result file: a retry downloads it again")


def _is_answer(line: bytes) -> bool:
    try:
        parse_answer(line, "")
    except msgspec.DecodeError:
        return False
    return True
