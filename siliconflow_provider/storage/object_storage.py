"""Object storage, as it is read; `publishing.py` writes it."""

from __future__ import annotations

import gzip
import hashlib
import os
import posixpath
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider import jsonl
from siliconflow_provider.storage.errors import MissingFileError, StorageError, storage_errors

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


def read_chunks(path: ObjectStoragePath, argument: str = "input_path") -> Iterator[bytes]:
    """Yield the bytes of a file, some at a time, unpacked where its name ends in `.gz`.

    :raises StorageError: when it cannot be read
    :raises ValueError: when it cannot be unpacked
    """
    with open_for_reading(path, argument) as stored:
        if not path.name.endswith(".gz"):
            yield from jsonl.read_chunks(stored)
            return
        try:
            yield from jsonl.read_chunks(cast(IO[bytes], gzip.GzipFile(fileobj=stored)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be unpacked: {error}; nothing was submitted") from None


def is_local(path: ObjectStoragePath) -> bool:
    """Whether a path is on a disk of this machine, or mounted as one."""
    return path.protocol in ("file", "local")


def is_same(one: ObjectStoragePath, other: ObjectStoragePath) -> bool:
    """Whether two paths are of one file, whether it is there or not."""
    if is_local(one) and is_local(other):
        with suppress(FileNotFoundError):
            return Path(one.path).samefile(other.path)
    return _whole(one) == _whole(other)


def is_below(path: ObjectStoragePath, directory: ObjectStoragePath) -> bool:
    """Whether a path is in a directory, at any depth."""
    (place, name), (outer_place, outer) = _whole(path), _whole(directory)
    return place == outer_place and name.startswith(f"{outer}/")


def _whole(path: ObjectStoragePath) -> tuple[bool, str]:
    """Return a path in the one spelling of its place: connections and schemes may differ for one bucket."""
    if is_local(path):
        return True, os.path.realpath(path.path)
    return False, posixpath.normpath(path.path)


def new_private_file(path: Path) -> IO[bytes]:
    """Open a new local file that only this user can read. It replaces an existing file of that name."""
    # Not truncated: a file that is there may be a published one by another name.
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def fetch(source: ObjectStoragePath, target: Path, argument: str = "output_path") -> bool:
    """Give a stored file a local name; return False when there is none.

    On one disk that is the same file, which costs no room: published files are replaced, never written to.

    :raises StorageError: when it cannot be read
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
        if is_local(path):
            # Not what fsspec takes, which changes with every further name of the file.
            with suppress(FileNotFoundError):
                found = Path(path.path).stat()
                return hash((found.st_ino, found.st_mtime_ns, found.st_size))
            return None
        path.fs.invalidate_cache()
        version: int | None = path.fs.checksum(path.path) if path.fs.exists(path.path) else None
        return version


def size_of(path: ObjectStoragePath, argument: str = "output_path") -> int | None:
    """Return how many bytes a file has; None when there is nothing of that name, 0 for what is no file.

    :raises StorageError: when it cannot be asked for
    """
    stamp = size_and_version_of(path, argument)
    if stamp is None and is_local(path) and os.path.lexists(path.path):
        # A link that leads nowhere yet is somebody's.
        return 0
    return None if stamp is None else int(stamp[0]) if stamp[0].isdecimal() else 0


def digest_of(path: ObjectStoragePath, argument: str = "output_path") -> str:
    """Return the SHA-256 (hex) of a file's bytes.

    :raises StorageError: when it cannot be read
    """
    sha256 = hashlib.sha256()
    with open_for_reading(path, argument) as stored:
        for piece in jsonl.read_chunks(stored):
            sha256.update(piece)
    return sha256.hexdigest()


def size_and_version_of(path: ObjectStoragePath, argument: str = "input_path") -> list[str] | None:
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
