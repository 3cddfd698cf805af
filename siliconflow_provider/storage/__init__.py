"""Read files from object storage, stage them on the local disk, and publish them atomically.

In: paths of the user. Out: a `Workspace` with the files of one job. Start reading at `workspace.py`.
"""

from __future__ import annotations

from siliconflow_provider.storage.errors import MissingFileError, StorageError, temporary_disk
from siliconflow_provider.storage.object_storage import (
    is_below,
    is_same,
    open_for_reading,
    read_chunks,
    size_and_version_of,
    storage_path,
)
from siliconflow_provider.storage.sources import matching_directories, names_file, source_files
from siliconflow_provider.storage.temporary import temporary_directory
from siliconflow_provider.storage.workspace import Workspace

__all__ = [
    "MissingFileError",
    "StorageError",
    "Workspace",
    "is_below",
    "is_same",
    "matching_directories",
    "names_file",
    "open_for_reading",
    "read_chunks",
    "size_and_version_of",
    "source_files",
    "storage_path",
    "temporary_directory",
    "temporary_disk",
]
