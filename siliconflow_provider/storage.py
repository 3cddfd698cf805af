"""Object storage: files are read from it, and appear in it whole or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.jobs import blocks
from siliconflow_provider.storage_errors import MissingFileError, StorageError, storage_errors

# s3fs reads ten chunks at a time, of 50 MiB each unless it is told otherwise.
S3_CHUNK_BYTES = 1 << 23
# As storages name them: first those that are equal for equal bytes.
VERSION_FIELDS = (
    "ETag",
    "etag",
    "md5Hash",
    "generation",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)


def storage_path(path: str | os.PathLike[str], argument: str = "output_path") -> ObjectStoragePath:
    """Return the path as Airflow's object storage takes it; a relative local one is made absolute.

    :param path: `s3://...`, `gs://...`, `file://...`, or a local path
    :param argument: the operator's argument that it comes from, for errors
    :raises StorageError: when it is empty, or its scheme is unknown
    """
    text = os.fspath(path)
    if not text.strip():
        raise StorageError(f"{argument} is empty: give a path")
    if "://" not in text:
        # Airflow 2.11 takes `rel` for `/rel`.
        text = f"file://{Path(text).expanduser().absolute()}"
    with storage_errors("use", argument, text):
        return ObjectStoragePath(text)


def open_for_reading(path: ObjectStoragePath, argument: str = "input_path") -> IO[bytes]:
    """Open a file for reading bytes; it can be iterated over by lines.

    Not by `path.open()`, whose wrapper cannot be iterated over in Airflow 2.11.

    :raises StorageError: here and while it is read
    """
    with storage_errors("read", argument, path):
        stored = path.fs.open(path.path, "rb")
        # s3fs opens a prefix as an empty file.
        if not getattr(stored, "size", None) and path.fs.isdir(path.path):
            stored.close()
            raise IsADirectoryError
    return cast(IO[bytes], _Reader(stored, argument, path))


class _Reader:
    """A stored file, whose errors name it."""

    def __init__(self, stored: IO[bytes], argument: str, path: ObjectStoragePath) -> None:
        self._stored = stored
        self._names = argument, path

    def read(self, size: int = -1) -> bytes:
        with storage_errors("read", *self._names):
            return self._stored.read(size)

    def __iter__(self) -> Iterator[bytes]:
        with storage_errors("read", *self._names):
            yield from self._stored

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stored.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)


def pieces_of(path: ObjectStoragePath, argument: str = "input_path") -> Iterator[bytes]:
    """Yield the bytes of a file, some at a time, unpacked where its name ends in `.gz`.

    :raises StorageError: when it cannot be read
    :raises ValueError: when it cannot be unpacked
    """
    with open_for_reading(path, argument) as stored:
        if not path.name.endswith(".gz"):
            yield from blocks.pieces_of(stored)
            return
        try:
            yield from blocks.pieces_of(cast(IO[bytes], gzip.GzipFile(fileobj=stored)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be unpacked: {error}; nothing was submitted") from None


def publish(source: Path, target: ObjectStoragePath, argument: str = "output_path") -> None:
    """Copy a finished local file to its place, where it has its name only once it is whole.

    Not written through `open()`: a file object that is closed by an error is published all the same, half.

    :raises StorageError: when it cannot be written
    """
    with storage_errors("write", argument, target):
        _publish(source, target)


def _publish(source: Path, target: ObjectStoragePath) -> None:
    if target.protocol not in ("file", "local"):
        options = {"chunksize": S3_CHUNK_BYTES} if target.protocol.startswith("s3") else {}
        target.fs.put_file(str(source), target.path, **options)
        return
    final = Path(target.path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{uuid.uuid4().hex}.part")
    try:
        shutil.copyfile(source, part)
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def fetch(source: ObjectStoragePath, target: Path, argument: str = "output_path") -> bool:
    """Copy a stored file to a local place; return False when there is none.

    :raises StorageError: when it cannot be read
    """
    try:
        with storage_errors("read", argument, source):
            source.fs.get_file(source.path, str(target))
    except MissingFileError:
        return False
    return True


def names_in(directory: ObjectStoragePath, argument: str = "output_path") -> list[str]:
    """Return the names of the files in a directory; none when there is no such directory.

    :raises StorageError: when it cannot be listed
    """
    try:
        with storage_errors("read", argument, directory):
            directory.fs.invalidate_cache()
            return sorted(each.rpartition("/")[2] for each in directory.fs.ls(directory.path, detail=False))
    except MissingFileError:
        return []


def version_of(path: ObjectStoragePath, argument: str = "output_path") -> int | None:
    """Return what changes whenever a file is written, such as an ETag's or a time's hash; None when there is none.

    :raises StorageError: when it cannot be asked for
    """
    with storage_errors("read", argument, path):
        path.fs.invalidate_cache()
        version: int | None = path.fs.checksum(path.path) if path.fs.exists(path.path) else None
        return version


def stamp_of(path: ObjectStoragePath, argument: str = "input_path") -> list[str] | None:
    """Return a file's size and, where the storage shows it, what tells its versions apart; None when there is no file.

    :raises StorageError: when it cannot be asked for
    """
    try:
        with storage_errors("read", argument, path):
            path.fs.invalidate_cache()
            info = path.fs.info(path.path)
    except MissingFileError:
        return None
    version = next((info[name] for name in VERSION_FIELDS if info.get(name)), "")
    return [str(info.get("size")), str(version)]
