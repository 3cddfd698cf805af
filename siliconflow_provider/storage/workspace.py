"""Give a job its files: published ones in object storage, and this attempt's copies on the local disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.job_directory import UnreadableFileError
from siliconflow_provider.storage.errors import MissingFileError
from siliconflow_provider.storage.object_storage import (
    digest_of,
    fetch,
    names_in,
    new_private_file,
    open_for_reading,
    size_of,
    version_of,
)
from siliconflow_provider.storage.publishing import copy, create_once, publish, writing

T = TypeVar("T")


class Workspace:
    """Read, write and publish files by name; a file has the same name in both places.

    :param directory: the directory of the published files
    :param local: an empty local directory
    :param argument: the operator's argument with the directory, for errors
    """

    def __init__(self, directory: ObjectStoragePath, local: Path, argument: str = "output_path") -> None:
        self.directory = directory
        self.local = local
        self._argument = argument
        self._versions: dict[str, int | None] = {}
        self._digests: dict[str, tuple[int, str]] = {}

    def url(self, name: str) -> str:
        """Return the URL of a published file."""
        return str(self.directory / name)

    def create(self, name: str) -> IO[bytes]:
        """Open a new local file for writing and reading."""
        return new_private_file(self._local_path(name))

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for writing; publish it if the block ends without an error."""
        return writing(self.directory / name, self._local_path(name))

    def names(self, directory: str) -> list[str]:
        """Return the names of the published files in a directory; none if it does not exist."""
        return names_in(self.directory / directory, self._argument)

    def size(self, name: str) -> int | None:
        """Return the size of a published file in bytes; None if nothing has this name."""
        return size_of(self.directory / name)

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 (hex) of a published file; None if it does not exist.

        A file that is unchanged since the last call is not read again.
        """
        version = version_of(self.directory / name)
        if version is None:
            return None
        if name not in self._digests or self._digests[name][0] != version:
            self._digests[name] = version, digest_of(self.directory / name)
        return self._digests[name][1]

    def fetch(self, name: str) -> Path | None:
        """Return the local copy of a file, and make it if needed; None if the file is not published."""
        path = self._local_path(name)
        return path if path.exists() or fetch(self.directory / name, path, self._argument) else None

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file without making a local copy; none if the file is not published."""
        path = self.local / name
        try:
            with path.open("rb") if path.exists() else open_for_reading(self.directory / name, self._argument) as lines:
                yield from lines
        except MissingFileError:
            return

    def discard(self, name: str) -> None:
        """Remove the local copy of a file."""
        (self.local / name).unlink(missing_ok=True)

    def publish(self, name: str) -> None:
        """Publish a local file atomically."""
        publish(self.local / name, self.directory / name)
        self._versions[name] = version_of(self.directory / name)

    def copy(self, name: str, new_name: str) -> None:
        """Copy a published file to another name, if it exists."""
        copy(self.directory / name, self.directory / new_name)

    def restore(self, *names: str) -> None:
        """Publish files of this attempt again if another attempt has replaced them."""
        for name in names:
            is_ours = name in self._versions and (self.local / name).exists()
            if is_ours and version_of(self.directory / name) != self._versions[name]:
                self.publish(name)

    def publish_json(self, name: str, value: Any) -> None:
        """Write a value as readable JSON, and publish it."""
        content = json_of(value)
        with self.create(name) as file:
            file.write(content)
        self.publish(name)

    def create_json_once(self, name: str, value: Any) -> None:
        """Publish a value as JSON if no file of this name exists. Read it afterwards to see who wrote it."""
        self.discard(name)
        create_once(self.directory / name, json_of(value))

    def read_json(self, name: str, kind: type[T]) -> T | None:
        """Return the value in a published JSON file; None if it does not exist.

        :raises UnreadableFileError: if the file does not hold such a value
        """
        path = self.fetch(name)
        if path is None:
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableFileError.of(self.url(name), kind, error) from None

    def _local_path(self, name: str) -> Path:
        path = self.local / name
        for parent in reversed(path.relative_to(self.local).parents):
            (self.local / parent).mkdir(mode=0o700, exist_ok=True)
        return path


def json_of(value: Any) -> bytes:
    """Return a value as readable JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
