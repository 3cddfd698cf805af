"""A job's files: the published ones in object storage, and this attempt's copies of them on the local disk."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.storage import fetch, names_in, publish, version_of

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

    def url(self, name: str) -> str:
        """Return where a file is published."""
        return str(self.directory / name)

    def create(self, name: str) -> IO[bytes]:
        """Open a new local file for writing and reading."""
        return self._local_path(name).open("w+b")

    def names(self, directory: str) -> list[str]:
        """Return the names of the files that are published in a directory; none where there is no such directory."""
        return names_in(self.directory / directory)

    def fetch(self, name: str) -> Path | None:
        """Return the local copy of a file, which is made where there is none; None when it is not published."""
        path = self._local_path(name)
        return path if path.exists() or fetch(self.directory / name, path) else None

    def discard(self, name: str) -> None:
        """Forget the local copy of a file."""
        (self.local / name).unlink(missing_ok=True)

    def publish(self, name: str) -> None:
        """Bring a local file to its place, where it appears whole."""
        publish(self.local / name, self.directory / name)
        self._versions[name] = version_of(self.directory / name)

    def keep(self, name: str, new_name: str) -> None:
        """Publish what is published as one file as another one too, if it is there."""
        # Not the local copy of this name: it may be what is about to take the place.
        if fetch(self.directory / name, self._local_path(new_name)):
            self.publish(new_name)

    def restore(self, *names: str) -> None:
        """Publish once more what this attempt has published of these, where another has put its own in their place."""
        for name in names:
            if name in self._versions and version_of(self.directory / name) != self._versions[name]:
                self.publish(name)

    def publish_json(self, name: str, value: Any) -> None:
        """Write a value as JSON, to be looked at, and publish it."""
        self._local_path(name).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2))
        self.publish(name)

    def read_json(self, name: str, kind: type[T]) -> T | None:
        """Return what a published file holds, or None when there is none.

        :raises ValueError: when it holds something else
        """
        path = self.fetch(name)
        if path is None:
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.url(name)} cannot be read as {kind.__name__}: {error}") from None

    def _local_path(self, name: str) -> Path:
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
