"""Read the small files that a job has published beside its results. The API server may not reach their storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from siliconflow_provider.storage import open_for_reading, storage_path

MOST_BYTES = 20_000_000


class UnreadableError(Exception):
    """A file cannot be shown; the message is a sentence for the page."""


def read_file(path: str, name: str) -> bytes:
    """Return the content of a file.

    :param path: its path, which a task has returned
    :param name: the name that the file must have
    :raises UnreadableError: if the API server cannot read it, or it is too large
    """
    if path.rpartition("/")[2] != name:
        raise UnreadableError(f"The task names another file than {name}.")
    try:
        with open_for_reading(storage_path(path, "the path"), "the path") as file:
            content = file.read(MOST_BYTES + 1)
    # Storages have errors of their own, also for access that is denied.
    except Exception as error:
        raise UnreadableError(
            f"The API server cannot read {name} ({type(error).__name__}). If only workers reach this storage, open the "
            "file there."
        ) from None
    if len(content) > MOST_BYTES:
        raise UnreadableError(f"{name} is larger than {MOST_BYTES:,} bytes, too large for this page.")
    return content


def read_manifest(path: str) -> Mapping[str, Any]:
    """Return the content of a job's manifest.

    :raises UnreadableError: if it cannot be read, or is not a manifest
    """
    try:
        found = msgspec.json.decode(read_file(path, "manifest.json"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnreadableError("manifest.json does not hold a manifest.")
    return found
