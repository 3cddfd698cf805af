"""Read the small files that a job has published beside its results. The API server may not reach their storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from siliconflow_provider.outputs import OWNER, Owner
from siliconflow_provider.storage import open_for_reading, storage_path

MOST_BYTES = 20_000_000
_LONGEST_OWNER = 10_000
_WITHOUT_HOST = ("file://", "s3://", "gs://", "gcs://", "abfs://", "abfss://")


class UnreadableError(Exception):
    """A file cannot be shown; the message is a sentence for the page."""


@dataclass(frozen=True)
class Publisher:
    """The task instance that must have published a file. Its return value may name any path: users can push XComs.

    :param task: its label, as in owner files
    :param output_path: its argument; None if Airflow has not kept it
    """

    task: str
    output_path: str | None = None


def read_file(path: str, name: str, publisher: Publisher) -> bytes:
    """Return the content of a file.

    :param path: its path, which a task has returned
    :param name: the name that the file must have
    :raises UnreadableError: if the API server cannot read it, it is too large, or another task may have published it
    """
    directory, _, found = path.rpartition("/")
    if found != name:
        raise UnreadableError(f"The task names another file than {name}.")
    try:
        # From another storage nothing is read, which could send requests with the credentials of any connection.
        if not _is_in_storage(path, publisher.output_path):
            raise UnreadableError(f"The task names a {name} in another storage than that of its output_path.")
        if not _names(_content(f"{directory}/{OWNER}", _LONGEST_OWNER), publisher.task):
            raise UnreadableError(f"{OWNER} beside {name} does not name this task instance: it is not shown.")
        content = _content(path, MOST_BYTES)
    except UnreadableError:
        raise
    # Storages have errors of their own, also for access that is denied.
    except Exception as error:
        raise UnreadableError(
            f"The API server cannot read {name} ({type(error).__name__}). If only workers reach this storage, open the "
            "file there."
        ) from None
    if len(content) > MOST_BYTES:
        raise UnreadableError(f"{name} is larger than {MOST_BYTES:,} bytes, too large for this page.")
    return content


def _content(path: str, most: int) -> bytes:
    """Return the content of a file, or its beginning if it is too large."""
    with open_for_reading(storage_path(path, "the path"), "the path") as file:
        return file.read(most + 1)


def _is_in_storage(path: str, output_path: str | None) -> bool:
    """Return True if a path has the scheme, the connection id and the bucket or host of an output path.

    If that is unknown, only local paths and buckets without a connection id are accepted: others name hosts.
    """
    found = _storage(path)
    if output_path is None:
        return "@" not in found and found.startswith(_WITHOUT_HOST)
    return found == _storage(output_path)


def _storage(path: str) -> str:
    url = str(storage_path(path, "the path"))
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _names(owner: bytes, task: str) -> bool:
    try:
        return msgspec.json.decode(owner, type=Owner).task == task
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def read_manifest(path: str, publisher: Publisher) -> Mapping[str, Any]:
    """Return the content of a job's manifest.

    :raises UnreadableError: if it cannot be read, or is not a manifest
    """
    try:
        found = msgspec.json.decode(read_file(path, "manifest.json", publisher))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnreadableError("manifest.json does not hold a manifest.")
    return found
