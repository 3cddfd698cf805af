"""The files of a job below its `output_path`: their names, and the protocol to read and write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, Self, TypeVar

from siliconflow_provider.api.service_texts import printable

# The directory of files that are not for users.
INTERNAL = "_siliconflow"
JOB, REQUESTS, ROWS = f"{INTERNAL}/job.json", f"{INTERNAL}/requests.jsonl", f"{INTERNAL}/rows.jsonl"
KEPT = f"{INTERNAL}/kept.jsonl"
ERRORS = f"{INTERNAL}/errors.jsonl"
RESULTS, MANIFEST = "results.jsonl", "manifest.json"
T = TypeVar("T")


def requests_name(round_number: int) -> str:
    """Return the name of the request file of a round that does not send all requests of the job."""
    return f"{INTERNAL}/round-{round_number}.jsonl"


def plan_name(round_number: int) -> str:
    """Return the name of the file with the plan of a later round."""
    return f"{INTERNAL}/round-{round_number}.json"


def own_name(name: str, directory: str) -> str:
    """Return the name of a job's own file: later jobs have a directory each, so that they keep earlier files."""
    return f"{INTERNAL}/{directory}/{PurePosixPath(name).name}" if directory else name


def replaced_name(name: str, job_id: str) -> str:
    """Return the name under which the results or the manifest of an earlier job are kept."""
    return f"{INTERNAL}/replaced/{job_id}/{name}"


class JobFilesError(ValueError):
    """The files of a job do not fit together."""

    def __init__(self, message: str) -> None:
        # The message contains names and content of files that others may have written.
        super().__init__(printable(message))


class UnreadableFileError(JobFilesError):
    """A file of a job has invalid content."""

    @classmethod
    def of(cls, url: str, kind: type, error: Exception) -> Self:
        """Return the error for a file.

        :param kind: the type that the file should contain
        :param error: the reason why it cannot be decoded
        """
        return cls(
            f"{url} cannot be read as {kind.__name__}: {error}. Restore the file. If no other task uses this "
            "output_path, you can also move the file away and clear the task: it then looks for its batches at the "
            "service"
        )


class Files(Protocol):
    """The files of a job. `siliconflow_provider.storage.workspace.Workspace` implements this protocol."""

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
