"""Record the owner of an output directory and the files it has written. No other file is ever overwritten."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from siliconflow_provider.api.service_texts import LONGEST_ERROR, cut
from siliconflow_provider.job_directory import (
    INTERNAL,
    MANIFEST,
    REPORT,
    RESULT_ROWS,
    RESULTS,
    RESULTS_OF_FORMAT,
    JobDirectory,
    JobFilesError,
    replaced_name,
    result_rows_name,
)

log = logging.getLogger(__name__)

OWNER = f"{INTERNAL}/owner.json"
# A record's name has a file's name, size and SHA-256, so that concurrent attempts never overwrite each other's records.
WRITTEN = f"{INTERNAL}/written"

# A job's or a batch's id that can name a directory.
_PLAIN_NAME = re.compile(r"[\w-][\w.:-]{0,199}")


class OutputConflictError(JobFilesError):
    """A directory belongs to another task instance, or a file was not written by this one. It is not overwritten."""


class Owner(msgspec.Struct, frozen=True):
    """The content of `_siliconflow/owner.json`.

    :param task: the task instance, as `dag/task/run/index`
    """

    task: str


class OutputDirectory:
    """The published files in a directory, all written by one task instance.

    :param task: the task instance
    :param results: the name of the file with its results
    """

    def __init__(self, files: JobDirectory, task: str, results: str = RESULTS) -> None:
        self._files = files
        self._owner = Owner(task)
        self._names = (results, MANIFEST)

    def check_claim(self, *, is_ours: bool) -> None:
        """Raise OutputConflictError if `claim` would raise it; write nothing."""
        if self._read_owner() is None and self._is_of_an_earlier_version(is_ours=is_ours):
            return
        self._check_owner()
        self._check_files(*self._names)

    def claim(self, *, is_ours: bool) -> None:
        """Make this task instance the owner of the directory, before it submits or publishes anything.

        :param is_ours: True if a version without owner files has written the directory for this task instance
        :raises OutputConflictError: if another task instance owns the directory, or has written a file in it
        """
        if self._read_owner() is None:
            if self._is_of_an_earlier_version(is_ours=is_ours):
                # Such a version wrote no other results.
                for name in (RESULTS, MANIFEST):
                    digest = self._files.digest(name)
                    if digest is not None:
                        self._record_written(name, self._files.size(name), digest)
            self._check_files(*self._names)
            self._files.create_json_once(OWNER, self._owner)
        self._check_owner()
        self._check_files(*self._names)

    def url(self, name: str) -> str:
        """Return the URL of a published file."""
        return self._files.url(name)

    def may_write(self, name: str) -> bool:
        """Return True if no file has this name, or this task instance wrote it."""
        return self._is_written(name, set(self._files.names(WRITTEN)))

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for writing; it is published if the block ends without an error.

        :raises OutputConflictError: if another task has published a file of this name meanwhile
        """
        with self._files.writing(name) as file:
            digested = _Digested(file)
            yield cast(IO[bytes], digested)
            self._check_owner()
            self._check_files(name)
            # Recorded before it is published: if this attempt is killed, the next one recognizes the file as its own.
            self._record_written(name, file.tell(), digested.sha256.hexdigest())

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Publish the manifest. It comes last: once it exists, the results exist too.

        :raises OutputConflictError: if another task instance has claimed the directory meanwhile
        """
        with self.writing(MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._files.discard(MANIFEST)
        # Some storages cannot refuse the second of two concurrent claims: then the later one owns the directory.
        self._check_owner()

    def publish_rows(self) -> None:
        """Publish the rows as JSON lines beside results of another format, from the local file.

        :raises OutputConflictError: if another task instance has claimed the directory meanwhile
        """
        self._check_owner()
        self._files.publish(RESULT_ROWS)
        self._files.discard(RESULT_ROWS)

    def archive_replaced_files(self, published: Mapping[str, Any], own_id: str) -> None:
        """Copy the published files of another job or batch before they are replaced.

        :param published: the published manifest; empty if there is none
        :param own_id: the id of the job that will be published
        """
        published_id = published.get("job_id")
        if not isinstance(published_id, str) or not _PLAIN_NAME.fullmatch(published_id) or published_id == own_id:
            return
        if self._files.size(replaced_name(MANIFEST, published_id)) is None:
            # The manifest comes last here too: once it is copied, the results are, and the published ones may be newer.
            results = RESULTS_OF_FORMAT.get(published.get("output_format", "jsonl"), RESULTS)
            # The report may be a file of somebody else.
            report = [REPORT] if "report" in published.get("paths", {}) else []
            for name in dict.fromkeys((result_rows_name(published), results, *report, MANIFEST)):
                self._files.copy(name, replaced_name(name, published_id))
            log.info("kept the previous results as %s", self._files.url(replaced_name(results, published_id)))

    def _read_owner(self) -> Owner | None:
        self._files.discard(OWNER)
        return self._files.read_json(OWNER, Owner)

    def _check_owner(self) -> None:
        owner = self._read_owner()
        if owner is not None and owner != self._owner:
            raise OutputConflictError(
                f"the directory of {self._files.url(OWNER)} belongs to another task instance "
                f"({cut(owner.task, LONGEST_ERROR)}), and this one ({self._owner.task}) does not overwrite its files: "
                "give each its own output_path, such as one with {{ run_id }}, and {{ ti.map_index }} if the task "
                "is mapped",
                "Then clear only this task, which submits nothing twice",
            )

    def _is_of_an_earlier_version(self, *, is_ours: bool) -> bool:
        """Return True if a version without owner files and records has written the directory."""
        return is_ours and not self._files.names(WRITTEN)

    def _check_files(self, *names: str) -> None:
        written = set(self._files.names(WRITTEN))
        for name in names:
            if not self._is_written(name, written):
                raise OutputConflictError(
                    f"{self._files.url(name)} exists, but this task ({self._owner.task}) did not write it, or it was "
                    "changed since: it is not overwritten",
                    "Move it away, or set another output_path, and clear the task, which submits nothing twice",
                )

    def _is_written(self, name: str, written: Collection[str]) -> bool:
        """Return True if a file does not exist, or its size and digest are recorded."""
        size = self._files.size(name)
        if size is None:
            return True
        # Read the file only if its size matches.
        has_known_size = any(record.startswith(_record_name(name, size, "")) for record in written)
        return has_known_size and _record_name(name, size, self._files.digest(name)) in written

    def _record_written(self, name: str, size: int | None, digest: str) -> None:
        self._files.create_json_once(f"{WRITTEN}/{_record_name(name, size, digest)}", self._owner)


def was_written(files: JobDirectory, name: str, path: Path) -> bool:
    """Return True if a task has written a file in a directory, and nobody has changed it since.

    :param path: the local copy of the file
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _record_name(name, path.stat().st_size, digest) in files.names(WRITTEN)


class _Digested:
    """A file that is being written, and the SHA-256 of its content so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, block: bytes) -> int:
        self.sha256.update(block)
        return self._file.write(block)


def _record_name(name: str, size: int | None, digest: str | None) -> str:
    return f"{name}.{size}.{digest}"
