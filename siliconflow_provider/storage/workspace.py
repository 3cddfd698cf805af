"""A job's files: the published ones in object storage, and this attempt's copies of them on the local disk."""

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
    """Files by their name, the same in both places.

    :param directory: where the job's files are published
    :param local: an empty local directory
    """

    def __init__(self, directory: ObjectStoragePath, local: Path) -> None:
        self.directory = directory
        self.local = local
        self._versions: dict[str, int | None] = {}
        self._digests: dict[str, tuple[int, str]] = {}

    def url(self, name: str) -> str:
        """Return where a file is published."""
        return str(self.directory / name)

    def create(self, name: str) -> IO[bytes]:
        """Open a new local file for writing and reading."""
        return new_private_file(self._local_path(name))

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for writing that is published once the block has ended without an error."""
        return writing(self.directory / name, self._local_path(name))

    def names(self, directory: str) -> list[str]:
        """Return the names of the files that are published in a directory; none where there is no such directory."""
        return names_in(self.directory / directory)

    def size(self, name: str) -> int | None:
        """Return the bytes of a published file; None where there is nothing of that name."""
        return size_of(self.directory / name)

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 (hex) of a published file; None where there is none.

        One that has not been written to since this attempt last asked is not read again.
        """
        version = version_of(self.directory / name)
        if version is None:
            return None
        if name not in self._digests or self._digests[name][0] != version:
            self._digests[name] = version, digest_of(self.directory / name)
        return self._digests[name][1]

    def fetch(self, name: str) -> Path | None:
        """Return the local copy of a file, which is made where there is none; None when it is not published."""
        path = self._local_path(name)
        return path if path.exists() or fetch(self.directory / name, path) else None

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, without a local copy of it; none when it is not published."""
        path = self.local / name
        try:
            with path.open("rb") if path.exists() else open_for_reading(self.directory / name, "output_path") as lines:
                yield from lines
        except MissingFileError:
            return

    def discard(self, name: str) -> None:
        """Forget the local copy of a file."""
        (self.local / name).unlink(missing_ok=True)

    def publish(self, name: str) -> None:
        """Bring a local file to its place, where it appears whole."""
        publish(self.local / name, self.directory / name)
        self._versions[name] = version_of(self.directory / name)

    def keep(self, name: str, new_name: str) -> None:
        """Publish what is published as one file as another one too, if it is there."""
        copy(self.directory / name, self.directory / new_name)

    def restore(self, *names: str) -> None:
        """Publish once more what this attempt has published of these, where another has put its own in their place."""
        for name in names:
            is_ours = name in self._versions and (self.local / name).exists()
            if is_ours and version_of(self.directory / name) != self._versions[name]:
                self.publish(name)

    def publish_json(self, name: str, value: Any) -> None:
        """Write a value as JSON, to be looked at, and publish it."""
        content = json_of(value)
        with self.create(name) as file:
            file.write(content)
        self.publish(name)

    def create_json_once(self, name: str, value: Any) -> None:
        """Publish a value as JSON, unless there is a file of that name; read it afterwards to see whose it is."""
        self.discard(name)
        create_once(self.directory / name, json_of(value))

    def read_json(self, name: str, kind: type[T]) -> T | None:
        """Return what a published file holds, or None when there is none.

        :raises UnreadableFileError: when it holds something else
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
        for each in reversed(path.relative_to(self.local).parents):
            (self.local / each).mkdir(mode=0o700, exist_ok=True)
        return path


def json_of(value: Any) -> bytes:
    """Return a value as JSON, to be looked at."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2)
