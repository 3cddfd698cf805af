"""Read object storage; `publishing.py` writes it."""

from __future__ import annotations

import gzip
import hashlib
import os
import posixpath
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider import jsonl
from siliconflow_provider.api.redaction import without_credentials
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.storage.errors import MissingFileError, StorageError, storage_errors

# The names in different storages; first those that are equal for equal bytes.
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
    """Return the path for Airflow's object storage; make a relative local path absolute.

    :param path: `s3://...`, `gs://...`, `file://...`, or a local path
    :param argument: the operator's argument with the path, for errors
    :raises StorageError: if the path is empty, or its scheme is unknown
    """
    # Paths of object storage are no os.PathLike on all versions of Airflow.
    text = str(path)
    if not text.strip():
        raise StorageError(f"{argument} is empty: give a path")
    if "://" not in text:
        # Airflow 2.11 treats `rel` as `/rel`.
        text = f"file://{Path(text).expanduser().absolute()}"
    with storage_errors("use", argument, text):
        return ObjectStoragePath(text)


def open_for_reading(path: ObjectStoragePath, argument: str = "input_path") -> IO[bytes]:
    """Open a file for reading bytes; iterating over it yields lines.

    :raises StorageError: here and while the file is read
    """
    if is_special(path, path.path):
        shown = printable(without_credentials(str(path)))
        raise StorageError(f"cannot read {argument} {shown}: it is not a regular file: give the path of a file")
    # Not `path.open()`: in Airflow 2.11, its result cannot be iterated over.
    with storage_errors("read", argument, path):
        stored = path.fs.open(path.path, "rb")
        # s3fs opens a prefix as an empty file.
        if not getattr(stored, "size", None) and path.fs.isdir(path.path):
            stored.close()
            raise IsADirectoryError
    return cast(IO[bytes], _Reader(stored, argument, path))


class _Reader:
    """A stored file; errors name its path."""

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


def read_chunks(path: ObjectStoragePath, argument: str = "input_path") -> Iterator[bytes]:
    """Yield the bytes of a file in chunks; decompress the file if its name ends in `.gz`.

    :raises StorageError: if the file cannot be read
    :raises ValueError: if the file cannot be decompressed
    """
    with open_for_reading(path, argument) as stored:
        if not path.name.endswith(".gz"):
            yield from jsonl.read_chunks(stored)
            return
        try:
            yield from jsonl.read_chunks(cast(IO[bytes], gzip.GzipFile(fileobj=stored)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            shown = without_credentials(str(path))
            raise ValueError(f"{shown} cannot be decompressed: {error}. Fix the file; nothing was submitted") from None


def is_local(path: ObjectStoragePath) -> bool:
    """Return True if a path is on a local or mounted disk."""
    return path.protocol in ("file", "local")


def is_special(path: ObjectStoragePath, name: str) -> bool:
    """Return True for a pipe, a socket or a device: opening or reading it may never end.

    :param path: any path of the storage
    :param name: the name in this storage
    """
    try:
        mode = Path(name).stat().st_mode if is_local(path) else None
    except (OSError, ValueError):
        return False
    return mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_same(one: ObjectStoragePath, other: ObjectStoragePath) -> bool:
    """Return True if two paths name the same file, which need not exist."""
    if is_local(one) and is_local(other):
        with suppress(OSError):
            return Path(one.path).samefile(other.path)
    return _canonical(one) == _canonical(other)


def is_below(path: ObjectStoragePath, directory: ObjectStoragePath) -> bool:
    """Return True if a path is in a directory, at any depth."""
    (is_local_path, name), (is_local_directory, outer) = _canonical(path), _canonical(directory)
    return is_local_path == is_local_directory and name.startswith(f"{outer}/")


def _canonical(path: ObjectStoragePath) -> tuple[bool, str]:
    """Return a path without its connection and scheme, which may differ for one bucket."""
    if is_local(path):
        return True, os.path.realpath(path.path)
    return False, posixpath.normpath(path.path)


def new_private_file(path: Path) -> IO[bytes]:
    """Open a new local file that only this user can read. It replaces an existing file of that name."""
    # Not truncated: an existing file may be a hard link to a published one.
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def fetch(source: ObjectStoragePath, target: Path, argument: str = "output_path") -> bool:
    """Copy a stored file to a local path; return False if it does not exist.

    On the same disk, make a hard link, which needs no space: published files are replaced, never modified.

    :raises StorageError: if the file cannot be read
    """
    if is_local(source) and not Path(source.path).is_symlink():
        target.unlink(missing_ok=True)
        with suppress(OSError):
            os.link(source.path, target)
            return True
    new_private_file(target).close()
    try:
        with storage_errors("read", argument, source):
            source.fs.get_file(source.path, str(target))
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, MissingFileError):
            return False
        raise
    return True


def names_in(directory: ObjectStoragePath, argument: str = "output_path") -> list[str]:
    """Return the names of the files in a directory; none if it does not exist.

    :raises StorageError: if the directory cannot be listed
    """
    try:
        with storage_errors("read", argument, directory):
            directory.fs.invalidate_cache()
            return sorted(name.rpartition("/")[2] for name in directory.fs.ls(directory.path, detail=False))
    except MissingFileError:
        return []


def version_of(path: ObjectStoragePath, argument: str = "output_path") -> int | None:
    """Return a number that changes whenever a file is written, such as the hash of its ETag; None without a file.

    :raises StorageError: if the storage cannot be read
    """
    with storage_errors("read", argument, path):
        if is_local(path):
            # Not the checksum of fsspec, which changes with every hard link to the file.
            with suppress(FileNotFoundError):
                found = Path(path.path).stat()
                return hash((found.st_ino, found.st_mtime_ns, found.st_size))
            return None
        path.fs.invalidate_cache()
        version: int | None = path.fs.checksum(path.path) if path.fs.exists(path.path) else None
        return version


def size_of(path: ObjectStoragePath, argument: str = "output_path") -> int | None:
    """Return the size of a file in bytes; None if it does not exist, 0 if the path is not a file.

    :raises StorageError: if the storage cannot be read
    """
    found = size_and_version_of(path, argument)
    if found is None and is_local(path) and os.path.lexists(path.path):
        # A dangling symbolic link exists, and belongs to somebody.
        return 0
    return None if found is None else int(found[0]) if found[0].isdecimal() else 0


def digest_of(path: ObjectStoragePath, argument: str = "output_path") -> str:
    """Return the SHA-256 (hex) of a file's bytes.

    :raises StorageError: if the file cannot be read
    """
    sha256 = hashlib.sha256()
    with open_for_reading(path, argument) as stored:
        for chunk in jsonl.read_chunks(stored):
            sha256.update(chunk)
    return sha256.hexdigest()


def size_and_version_of(path: ObjectStoragePath, argument: str = "input_path") -> list[str] | None:
    """Return a file's size and version (empty if the storage has none); None if the file does not exist.

    :raises StorageError: if the storage cannot be read
    """
    try:
        with storage_errors("read", argument, path):
            path.fs.invalidate_cache()
            info = path.fs.info(path.path)
    except MissingFileError:
        return None
    version = next((info[name] for name in VERSION_FIELDS if info.get(name)), "")
    return [str(info.get("size")), str(version)]
