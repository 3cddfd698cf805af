"""Name the files of a job below its `output_path`, and define the protocol to read and write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from errno import EDQUOT, EIO, EMFILE, ENFILE, ENOSPC, ESTALE, ETIMEDOUT
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, Self, TypeVar

from siliconflow_provider.api.service_texts import printable

# Files that users do not read.
INTERNAL = "_siliconflow"
JOB, REQUESTS, ROWS = f"{INTERNAL}/job.json", f"{INTERNAL}/requests.jsonl", f"{INTERNAL}/rows.jsonl"
KEPT, DUPLICATES = f"{INTERNAL}/kept.jsonl", f"{INTERNAL}/duplicates.jsonl"
REJECTED = f"{INTERNAL}/rejected.jsonl"
ERRORS = f"{INTERNAL}/errors.jsonl"
# Its directories are named for the ids of jobs.
REPLACED = f"{INTERNAL}/replaced"
RESULTS, MANIFEST, REPORT = "results.jsonl", "manifest.json", "report.html"
# The published file with the results, by output format.
RESULTS_OF_FORMAT = {"jsonl": RESULTS, "parquet": "results.parquet", "csv": "results.csv"}
# Beside results of another format: the same rows as JSON lines, which later attempts read.
RESULT_ROWS = f"{INTERNAL}/results.jsonl"
# Errors of a disk or a network rather than of one file.
TEMPORARY_ERRORS = frozenset((ENOSPC, EDQUOT, EMFILE, ENFILE, EIO, ESTALE, ETIMEDOUT))
T = TypeVar("T")


def requests_name(round_number: int) -> str:
    """Return the name of the request file of a round that does not send all requests of the job."""
    return f"{INTERNAL}/round-{round_number}.jsonl"


def plan_name(round_number: int) -> str:
    """Return the name of the file with the plan of a later round."""
    return f"{INTERNAL}/round-{round_number}.json"


def usage_name(round_number: int, sha256: str) -> str:
    """Return the name of the file with the tokens of a part's batch."""
    return f"{INTERNAL}/usage-{round_number}-{sha256[:32]}.json"


def job_file_name(name: str, directory: str) -> str:
    """Return the name of a job's own file. Later jobs have a directory each, so that they leave earlier files alone."""
    return f"{INTERNAL}/{directory}/{PurePosixPath(name).name}" if directory else name


def replaced_name(name: str, job_id: str) -> str:
    """Return the name under which results, manifest or job file of a replaced job are kept."""
    return f"{REPLACED}/{job_id}/{PurePosixPath(name).name}"


def result_rows_name(manifest: Mapping[str, Any]) -> str:
    """Return the name of the file with the rows of published results as JSON lines.

    :param manifest: the manifest that is published beside them; older ones do not name the format, which is `jsonl`
    """
    return RESULTS if manifest.get("output_format", "jsonl") == "jsonl" else RESULT_ROWS


class JobFilesError(ValueError):
    """The files of a job are missing, changed or contradictory.

    :param message: put on one line, since it may show file names and content that others have written
    :param advice: sentences of this package alone, on lines of their own
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(f"{printable(message)}.\n{advice}" if advice else printable(message))


class UnreadableFileError(JobFilesError):
    """A file of a job exists, but its content is not readable."""

    @classmethod
    def of(cls, url: str, kind: type, error: Exception) -> Self:
        """Return the error for a file.

        :param kind: the type that the file should hold
        :param error: the error of decoding it
        """
        return cls(
            f"{url} cannot be read as {kind.__name__}: {error}",
            "Restore the file; or, if only this task uses the output_path, move the file away and clear the task, "
            "which then searches for its batches at the service",
        )


class JobDirectory(Protocol):
    """Read and write a job's files; see `siliconflow_provider.storage.workspace.Workspace`."""

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
    def copy(self, name: str, new_name: str) -> None: ...
    def restore(self, *names: str) -> None: ...
    def publish_json(self, name: str, value: Any) -> None: ...
    def create_json_once(self, name: str, value: Any) -> None: ...
    def read_json(self, name: str, kind: type[T]) -> T | None: ...
