"""The files of a job: their names, where they are, and one part of them as a file of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, Self, TypeVar

import msgspec

from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.jobs.blocks import blocks_of, pieces_of
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.parts import Part

# What only attempts read is kept apart from what users read.
INTERNAL = "_siliconflow"
JOB, REQUESTS, ROWS = f"{INTERNAL}/job.json", f"{INTERNAL}/requests.jsonl", f"{INTERNAL}/rows.jsonl"
KEPT = f"{INTERNAL}/kept.jsonl"
ERRORS = f"{INTERNAL}/errors.jsonl"
RESULTS, MANIFEST = "results.jsonl", "manifest.json"
T = TypeVar("T")


class JobFilesError(ValueError):
    """The files of a job do not fit together."""

    def __init__(self, message: str) -> None:
        # It names files, and tells of what others have written into them.
        super().__init__(printable(message))


class UnreadableFileError(JobFilesError):
    """A file of a job is there, and holds something else."""

    @classmethod
    def of(cls, url: str, kind: type, error: Exception) -> Self:
        """Return the error of a file.

        :param kind: what it should hold
        :param error: why it cannot be read so
        """
        return cls(
            f"{url} cannot be read as {kind.__name__}: {error}. Put back what it was; or, where output_path is this "
            "task's alone, move it away and clear the task, which then looks for what was bought at the service"
        )


class RequestsLostError(ValueError):
    """A file that a job needs is gone or another one. It is neither submitted nor merged; a retry looks again."""


class Files(Protocol):
    """The job's files, as `siliconflow_provider.workspace.Workspace` has them."""

    def url(self, name: str) -> str: ...
    def create(self, name: str) -> IO[bytes]: ...
    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]: ...
    def fetch(self, name: str) -> Path | None: ...
    def lines(self, name: str) -> Iterator[bytes]: ...
    def names(self, directory: str) -> list[str]: ...
    def size(self, name: str) -> int | None: ...
    def digest(self, name: str) -> str | None: ...
    def discard(self, name: str) -> None: ...
    def publish(self, name: str) -> None: ...
    def keep(self, name: str, new_name: str) -> None: ...
    def restore(self, *names: str) -> None: ...
    def publish_json(self, name: str, value: Any) -> None: ...
    def create_json_once(self, name: str, value: Any) -> None: ...
    def read_json(self, name: str, kind: type[T]) -> T | None: ...


class RequestFiles:
    """Local copies of the requests of a job's rounds, known to be what was planned.

    :param directory: of the job's own files
    """

    def __init__(self, files: Files, directory: str = "") -> None:
        self._files = files
        self._directory = directory
        self._checked: set[str] = set()

    def path(self, round_: Round) -> Path:
        """Return the file of a round.

        :raises RequestsLostError: when it is gone or was changed
        """
        name = own_name(REQUESTS if sends_all(round_) else requests_name(round_.number), self._directory)
        path = self._files.fetch(name)
        if path is None:
            raise RequestsLostError(
                f"{self._files.url(name)} is gone: put it back, or start a new job in another output_path"
            )
        if name not in self._checked:
            if not all(map(partial(_is_unchanged, path), round_.parts)):
                raise RequestsLostError(
                    f"{self._files.url(name)} of this job was changed: put back what it was, or start a new job in "
                    "another output_path"
                )
            self._checked.add(name)
        return path

    def release(self) -> None:
        """Remove the copies, to make room; who asks again gets a new one."""
        for name in self._checked:
            self._files.discard(name)
        self._checked.clear()


def requests_name(round_number: int) -> str:
    """Return the name of the file with the requests of a round that does not send all of the job."""
    return f"{INTERNAL}/round-{round_number}.jsonl"


def plan_name(round_number: int) -> str:
    """Return the name of the file that says what a later round is."""
    return f"{INTERNAL}/round-{round_number}.json"


def own_name(name: str, directory: str) -> str:
    """Return where a job has a file of its own: jobs after the first one do not touch those of the job before."""
    return f"{INTERNAL}/{directory}/{PurePosixPath(name).name}" if directory else name


def replaced_name(name: str, job_id: str) -> str:
    """Return where the results and the manifest of a job are kept when another one writes its own."""
    return f"{INTERNAL}/replaced/{job_id}/{name}"


def sends_all(round_: Round) -> bool:
    """Whether a round's requests are all of the job's."""
    return round_.number == 1 and not round_.indexes


def lines_at(path: Path, positions: Iterable[int]) -> Iterator[bytes]:
    """Yield the lines at these positions of a file, which ascend."""
    wanted = iter(positions)
    following = next(wanted, None)
    with path.open("rb") as lines:
        for position, line in enumerate(lines):
            if following is None:
                return
            if position == following:
                yield line
                following = next(wanted, None)


def _is_unchanged(path: Path, part: Part) -> bool:
    with FilePart(path, part) as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == part.sha256


class _Identity(msgspec.Struct, gc=False):
    custom_id: str


_decoder = msgspec.json.Decoder(_Identity)


def ids_of_part(path: Path, part: Part) -> Iterator[str]:
    """Yield the custom id of each request of a part."""
    with FilePart(path, part) as content:
        for block in blocks_of(pieces_of(content)):
            yield from (each.custom_id for each in _decoder.decode_lines(block))


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
