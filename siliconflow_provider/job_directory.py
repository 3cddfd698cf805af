"""The files of a job, below its `output_path`: their names, and how they are read and written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, Self, TypeVar

from siliconflow_provider.api.service_texts import printable

# What only attempts read is kept apart from what users read.
INTERNAL = "_siliconflow"
JOB, REQUESTS, ROWS = f"{INTERNAL}/job.json", f"{INTERNAL}/requests.jsonl", f"{INTERNAL}/rows.jsonl"
KEPT = f"{INTERNAL}/kept.jsonl"
ERRORS = f"{INTERNAL}/errors.jsonl"
RESULTS, MANIFEST = "results.jsonl", "manifest.json"
T = TypeVar("T")


def requests_name(round_number: int) -> str:
    """Return the name of the file with the requests of a round that does not send all of the job."""
    return f"{INTERNAL}/round-{round_number}.jsonl"


def plan_name(round_number: int) -> str:
    """Return the name of the file that says what a later round is."""
    return f"{INTERNAL}/round-{round_number}.json"


def job_file_name(name: str, directory: str) -> str:
    """Return where a job has a file of its own: jobs after the first one do not touch those of the job before."""
    return f"{INTERNAL}/{directory}/{PurePosixPath(name).name}" if directory else name


def replaced_name(name: str, job_id: str) -> str:
    """Return where the results and the manifest of a job are kept when another one writes its own."""
    return f"{INTERNAL}/replaced/{job_id}/{name}"


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


class JobDirectory(Protocol):
    """The job's files, as `siliconflow_provider.storage.workspace.Workspace` has them."""

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
