"""Publish files in an output directory atomically: each appears complete or not at all."""

from __future__ import annotations

import errno
import inspect
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.storage.errors import MissingFileError, storage_errors
from siliconflow_provider.storage.object_storage import is_local, new_private_file

# s3fs reads ten chunks at a time, by default of 50 MiB each.
S3_CHUNK_BYTES = 1 << 23
# In seconds. A temporary file that is older was left by a killed process.
ABANDONED_AFTER = 24 * 3600
# The errors of file systems without `fsync`.
CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def publish(source: Path, target: ObjectStoragePath, argument: str = "output_path") -> None:
    """Publish a finished local file; it gets its name only when it is complete.

    On the same disk, make a hard link, which needs no space. Do not modify either file afterwards.

    :raises StorageError: if the file cannot be written
    """
    # Not `open()`: if an error closes the file object, the storage publishes a truncated file.
    with storage_errors("write", argument, target):
        if is_local(target):
            with _temporary_file(Path(target.path)) as temporary:
                mode = temporary.stat().st_mode
                _link_or_copy(source, temporary)
                if temporary.stat().st_nlink == 2:
                    # A new file, which only this user can read so far.
                    temporary.chmod(mode)
                _move(temporary, Path(target.path))
        else:
            options = {"chunksize": S3_CHUNK_BYTES} if target.protocol.startswith("s3") else {}
            target.fs.put_file(str(source), target.path, **options)


@contextmanager
def writing(target: ObjectStoragePath, staged: Path, argument: str = "output_path") -> Iterator[IO[bytes]]:
    """Open a file for writing; publish it if the block ends without an error.

    :param staged: a local path for the content if the target is not local
    :raises StorageError: if the file cannot be written
    """
    if not is_local(target):
        try:
            with new_private_file(staged) as file:
                yield file
            publish(staged, target, argument)
        finally:
            staged.unlink(missing_ok=True)
        return
    staged.unlink(missing_ok=True)
    with storage_errors("write", argument, target):
        context = _temporary_file(Path(target.path))
        temporary = context.__enter__()
    try:
        with temporary.open("wb") as file:
            yield cast(IO[bytes], _Writer(file, argument, target))
            with storage_errors("write", argument, target):
                file.flush()
        with storage_errors("write", argument, target):
            _move(temporary, Path(target.path))
    finally:
        context.__exit__(None, None, None)


class _Writer:
    """A file that is being written; errors name its target path."""

    def __init__(self, file: IO[bytes], argument: str, path: ObjectStoragePath) -> None:
        self._file = file
        self._names = argument, path

    def write(self, block: bytes) -> int:
        with storage_errors("write", *self._names):
            return self._file.write(block)

    def tell(self) -> int:
        return self._file.tell()


def create_once(target: ObjectStoragePath, content: bytes, argument: str = "output_path") -> None:
    """Write a small file if none of its name exists.

    Some storages cannot refuse the second of two concurrent writers: read the file afterwards to see who wrote it.

    :raises StorageError: if the file cannot be written
    """
    with storage_errors("write", argument, target):
        if is_local(target):
            _create_once_on_disk(Path(target.path), content)
        else:
            _create_once_in_storage(target, content)


def copy(source: ObjectStoragePath, target: ObjectStoragePath, argument: str = "output_path") -> bool:
    """Copy a file within its storage, without downloading it; return False if it does not exist.

    :raises StorageError: if the file cannot be copied
    """
    if is_local(source):
        if not Path(source.path).exists():
            return False
        with storage_errors("write", argument, target), _temporary_file(Path(target.path)) as temporary:
            _link_or_copy(Path(source.path), temporary)
            _move(temporary, Path(target.path))
        return True
    try:
        with storage_errors("read", argument, source):
            source.fs.invalidate_cache()
            source.fs.cp_file(source.path, target.path)
    except MissingFileError:
        return False
    return True


@contextmanager
def _temporary_file(final: Path) -> Iterator[Path]:
    """Create a temporary file beside the final one; remove it after the block unless it was moved."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.open("xb").close()
        _remove_abandoned(final, temporary.stat().st_mtime)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(final: Path, now: float) -> None:
    """Remove the temporary files that killed processes left beside a file.

    :param now: the time by the clock of the file system
    """
    for other in final.parent.glob(f".{final.name}.{'[0-9a-f]' * 32}.part"):
        # Another attempt may just have published it.
        with suppress(FileNotFoundError):
            if now - other.stat().st_mtime > ABANDONED_AFTER:
                other.unlink()


def _link_or_copy(source: Path, temporary: Path) -> None:
    temporary.unlink()
    try:
        os.link(source, temporary)
    except OSError:
        # Another disk, or one without hard links.
        shutil.copyfile(source, temporary)


def _move(temporary: Path, final: Path) -> None:
    _sync(temporary)
    temporary.replace(final)


def _sync(temporary: Path) -> None:
    """Write a file to the disk before it gets its name: otherwise a power failure could leave an empty file."""
    with temporary.open("rb") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in CANNOT_SYNC:
                raise


def _create_once_on_disk(final: Path, content: bytes) -> None:
    with _temporary_file(final) as temporary:
        temporary.write_bytes(content)
        _sync(temporary)
        try:
            os.link(temporary, final)
        except FileExistsError:
            return
        except OSError:
            # A disk without hard links. Not written in place: a killed process would leave a truncated file for ever.
            if not os.path.lexists(final):
                temporary.replace(final)


def _create_once_in_storage(target: ObjectStoragePath, content: bytes) -> None:
    target.fs.invalidate_cache()
    if target.fs.exists(target.path):
        return
    if "mode" in inspect.signature(target.fs.pipe_file).parameters:
        try:
            target.fs.pipe_file(target.path, content, mode="create")
            return
        except FileExistsError:
            return
        except Exception:  # noqa: S110 - a storage without conditional writes; any other error is raised again below
            pass
    target.fs.pipe_file(target.path, content)
