"""Whose an output directory is, and which files in it are its owner's: nothing else is ever overwritten."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import msgspec

from siliconflow_provider.api.service_texts import LONGEST_ERROR, cut
from siliconflow_provider.job_directory import INTERNAL, MANIFEST, RESULTS, JobDirectory, JobFilesError, replaced_name

log = logging.getLogger(__name__)

OWNER = f"{INTERNAL}/owner.json"
# Its files are named for a file, its size and its SHA-256, so that attempts at the same time write none of the others'.
WRITTEN = f"{INTERNAL}/written"


class OutputConflictError(JobFilesError):
    """A directory or a file is another one's. It is not overwritten."""


class Owner(msgspec.Struct, frozen=True):
    """What `_siliconflow/owner.json` holds.

    :param task: the task instance, as `dag/task/run/index`
    """

    task: str


class OutputDirectory:
    """The files for users in a directory, all of which one task instance has written.

    :param task: the task instance
    """

    def __init__(self, files: JobDirectory, task: str) -> None:
        self._files = files
        self._owner = Owner(task)

    def check_claim(self, *, is_ours: bool) -> None:
        """Raise OutputConflictError where `claim` would, and write nothing."""
        if self._read_owner() is None and self._is_of_an_earlier_version(is_ours=is_ours):
            return
        self._check_owner()
        self._check_files(RESULTS, MANIFEST)

    def claim(self, *, is_ours: bool) -> None:
        """Make the directory this task instance's, before anything is submitted for it or published in it.

        :param is_ours: whether a version that wrote down no owner has written what is there for this task instance
        :raises OutputConflictError: when the directory is another's, or has a file of another
        """
        if self._read_owner() is None:
            if self._is_of_an_earlier_version(is_ours=is_ours):
                for name in (RESULTS, MANIFEST):
                    digest = self._files.digest(name)
                    if digest is not None:
                        self._note(name, self._files.size(name), digest)
            self._check_files(RESULTS, MANIFEST)
            self._files.create_json_once(OWNER, self._owner)
        self._check_owner()
        self._check_files(RESULTS, MANIFEST)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open one of the files for writing; it is published once the block has ended without an error.

        :raises OutputConflictError: when another file has come to its place
        """
        with self._files.writing(name) as file:
            digested = _Digested(file)
            yield cast(IO[bytes], digested)
            self._check_owner()
            self._check_files(name)
            # Before it has its name: whenever this attempt dies, the next one knows it for its own.
            self._note(name, file.tell(), digested.sha256.hexdigest())

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Publish the manifest, which comes last: where it is, the results are.

        :raises OutputConflictError: when another task instance has the directory meanwhile
        """
        with self.writing(MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._files.discard(MANIFEST)
        # Some storages cannot tell two who claim a directory at once: then the later one has it.
        self._check_owner()

    def archive_replaced_files(self, published_id: Any, own_id: str) -> None:
        """Keep the files of another job, or another batch, that are about to be replaced.

        :param published_id: of what is published
        :param own_id: of what is going to be
        """
        if not isinstance(published_id, str) or "/" in published_id or published_id == own_id:
            return
        if self._files.size(replaced_name(MANIFEST, published_id)) is None:
            # The manifest comes last here too: where it is kept, the results are, and those that stand may be newer.
            for name in (RESULTS, MANIFEST):
                self._files.keep(name, replaced_name(name, published_id))
            log.info("what was there before is kept as %s", self._files.url(replaced_name(RESULTS, published_id)))

    def _read_owner(self) -> Owner | None:
        self._files.discard(OWNER)
        return self._files.read_json(OWNER, Owner)

    def _check_owner(self) -> None:
        owner = self._read_owner()
        if owner is not None and owner != self._owner:
            raise OutputConflictError(
                f"{self._files.url(OWNER)} says that the directory is that of another task instance "
                f"({cut(owner.task, LONGEST_ERROR)}), and this one ({self._owner.task}) does not overwrite its files: "
                "give each its own output_path, such as one with {{ run_id }}, and {{ ti.map_index }} where the task "
                "is mapped, and clear this task alone, which buys nothing that was bought already"
            )

    def _is_of_an_earlier_version(self, *, is_ours: bool) -> bool:
        """Whether what is there is of a version that wrote down neither owner nor files."""
        return is_ours and not self._files.names(WRITTEN)

    def _check_files(self, *names: str) -> None:
        written = set(self._files.names(WRITTEN))
        for name in names:
            if not self._is_written(name, written):
                raise OutputConflictError(
                    f"{self._files.url(name)} is there, and this task ({self._owner.task}) has not written it, or it "
                    "was changed since: it is not overwritten. Move it away, or give another output_path, and clear "
                    "the task, which buys nothing that was bought already"
                )

    def _is_written(self, name: str, written: Collection[str]) -> bool:
        """Whether a file is one that was written down, or there is none."""
        size = self._files.size(name)
        if size is None:
            return True
        # It is read only where its size may be right.
        is_like_one = any(each.startswith(_note_name(name, size, "")) for each in written)
        return is_like_one and _note_name(name, size, self._files.digest(name)) in written

    def _note(self, name: str, size: int | None, digest: str) -> None:
        self._files.create_json_once(f"{WRITTEN}/{_note_name(name, size, digest)}", self._owner)


class _Digested:
    """A file that is being written, and the SHA-256 of what was."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, block: bytes) -> int:
        self.sha256.update(block)
        return self._file.write(block)


def _note_name(name: str, size: int | None, digest: str | None) -> str:
    return f"{name}.{size}.{digest}"
