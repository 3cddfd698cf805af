"""The files of a job: their names, where they are, and one part of them as a file of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from siliconflow_provider.jobs.parts import Part
from siliconflow_provider.jobs.request_lines import read_request

JOB, REQUESTS, ROWS = "job.json", "requests.jsonl", "rows.jsonl"
RESULTS, MANIFEST = "results.jsonl", "manifest.json"
T = TypeVar("T")


class JobFilesError(ValueError):
    """The files of a job do not fit together."""


class Files(Protocol):
    """The job's files, as `siliconflow_provider.workspace.Workspace` has them."""

    def url(self, name: str) -> str: ...
    def create(self, name: str) -> IO[bytes]: ...
    def fetch(self, name: str) -> Path | None: ...
    def discard(self, name: str) -> None: ...
    def publish(self, name: str) -> None: ...
    def publish_json(self, name: str, value: Any) -> None: ...
    def read_json(self, name: str, kind: type[T]) -> T | None: ...


def requests_file(files: Files, round_number: int) -> Path:
    """Return the local copy of the requests of a round.

    :raises JobFilesError: when they are gone
    """
    name = REQUESTS if round_number == 1 else f"round-{round_number}.jsonl"
    path = files.fetch(name)
    if path is None:
        raise JobFilesError(f"{files.url(name)} is gone: put it back, or start a new job in another output_path")
    return path


def ids_of_part(path: Path, part: Part) -> Iterator[str]:
    """Yield the custom id of each request of a part.

    :raises JobFilesError: when the file is not what it was
    """
    with FilePart(path, part) as content:
        check_content(content, path, part)
    with path.open("rb") as file:
        file.seek(part.offset)
        for line in islice(file, part.lines):
            yield read_request(line).custom_id


def check_content(content: FilePart, path: Path, part: Part) -> None:
    """Raise JobFilesError when a part is not what it was: other requests would be bought, or these once more."""
    if hashlib.file_digest(content, "sha256").hexdigest() != part.sha256:
        raise JobFilesError(f"{path.name} of this job was changed: put back what it was")


class FilePart:
    """A part of a file as a file object of its own, for hashing and uploading."""

    def __init__(self, path: Path, part: Part) -> None:
        self._file = path.open("rb")
        self._start = part.offset
        self._size = part.bytes
        self._position = 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position, as a file does."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readable(self) -> bool:
        """Say that it can be read, for `hashlib.file_digest`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return with how much."""
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def read(self, size: int = -1) -> bytes:
        """Read on, to the part's end at most."""
        left = max(self._size - self._position, 0)
        self._file.seek(self._start + self._position)
        block = self._file.read(left if size < 0 else min(size, left))
        self._position += len(block)
        return block
