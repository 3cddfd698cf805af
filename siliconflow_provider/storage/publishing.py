"""Files brought to their place in an output directory, where each appears whole or not at all."""

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

# s3fs reads ten chunks at a time, of 50 MiB each unless it is told otherwise.
S3_CHUNK_BYTES = 1 << 23
# A part of a file that nobody has written to for so long, in seconds, is what a killed process has left.
ABANDONED_AFTER = 24 * 3600
# What some file systems say that know no `fsync`.
CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def publish(source: Path, target: ObjectStoragePath, argument: str = "output_path") -> None:
    """Bring a finished local file to its place, where it has its name only once it is whole.

    On one disk it is the same file then, which costs no room; write to neither.

    :raises StorageError: when it cannot be written
    """
    # Not written through `open()`: a file object that is closed by an error is published all the same, half.
    with storage_errors("write", argument, target):
        if is_local(target):
            with _part_of(Path(target.path)) as part:
                mode = part.stat().st_mode
                _link_or_copy(source, part)
                if part.stat().st_nlink == 2:
                    # It is a new file, which only this user can read so far.
                    part.chmod(mode)
                _move(part, Path(target.path))
        else:
            options = {"chunksize": S3_CHUNK_BYTES} if target.protocol.startswith("s3") else {}
            target.fs.put_file(str(source), target.path, **options)


@contextmanager
def writing(target: ObjectStoragePath, staged: Path, argument: str = "output_path") -> Iterator[IO[bytes]]:
    """Open a file for writing that has its name once the block has ended without an error.

    :param staged: a local path, used where the storage takes whole files only
    :raises StorageError: when it cannot be written
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
        parts = _part_of(Path(target.path))
        part = parts.__enter__()
    try:
        with part.open("wb") as file:
            yield cast(IO[bytes], _Writer(file, argument, target))
            with storage_errors("write", argument, target):
                file.flush()
        with storage_errors("write", argument, target):
            _move(part, Path(target.path))
    finally:
        parts.__exit__(None, None, None)


class _Writer:
    """A file that is being written, whose errors name its place."""

    def __init__(self, file: IO[bytes], argument: str, path: ObjectStoragePath) -> None:
        self._file = file
        self._names = argument, path

    def write(self, block: bytes) -> int:
        with storage_errors("write", *self._names):
            return self._file.write(block)

    def tell(self) -> int:
        return self._file.tell()


def create_once(target: ObjectStoragePath, content: bytes, argument: str = "output_path") -> None:
    """Write a small file, unless there is one of its name.

    Not every storage can refuse the second of two writers at the same moment: read it afterwards to see whose it is.

    :raises StorageError: when it cannot be written
    """
    with storage_errors("write", argument, target):
        if is_local(target):
            _create_once_on_disk(Path(target.path), content)
        else:
            _create_once_in_storage(target, content)


def copy(source: ObjectStoragePath, target: ObjectStoragePath, argument: str = "output_path") -> bool:
    """Copy a stored file within its storage, which brings nothing to this machine; return False when there is none.

    :raises StorageError: when it cannot be copied
    """
    if is_local(source):
        if not Path(source.path).exists():
            return False
        with storage_errors("write", argument, target), _part_of(Path(target.path)) as part:
            _link_or_copy(Path(source.path), part)
            _move(part, Path(target.path))
        return True
    try:
        with storage_errors("read", argument, source):
            source.fs.invalidate_cache()
            source.fs.cp_file(source.path, target.path)
    except MissingFileError:
        return False
    return True


@contextmanager
def _part_of(final: Path) -> Iterator[Path]:
    """Give a file beside the final one to be written; it is removed unless it was moved."""
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{uuid.uuid4().hex}.part")
    try:
        part.open("xb").close()
        _remove_abandoned(final, part.stat().st_mtime)
        yield part
    finally:
        part.unlink(missing_ok=True)


def _remove_abandoned(final: Path, now: float) -> None:
    """Remove what a killed process has left of a file.

    :param now: by the clock of the file system
    """
    for other in final.parent.glob(f".{final.name}.{'[0-9a-f]' * 32}.part"):
        # Another attempt may just have moved it to its place.
        with suppress(FileNotFoundError):
            if now - other.stat().st_mtime > ABANDONED_AFTER:
                other.unlink()


def _link_or_copy(source: Path, part: Path) -> None:
    part.unlink()
    try:
        os.link(source, part)
    except OSError:
        # Another disk, or one without hard links.
        shutil.copyfile(source, part)


def _move(part: Path, final: Path) -> None:
    _sync(part)
    part.replace(final)


def _sync(part: Path) -> None:
    """Have the disk hold a file before it gets its name: else a loss of power leaves an empty one of that name."""
    with part.open("rb") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in CANNOT_SYNC:
                raise


def _create_once_on_disk(final: Path, content: bytes) -> None:
    with _part_of(final) as part:
        part.write_bytes(content)
        _sync(part)
        try:
            os.link(part, final)
        except FileExistsError:
            return
        except OSError:
            # A disk without hard links. Not written in its place: who dies meanwhile would leave half of it for ever.
            if not os.path.lexists(final):
                part.replace(final)


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
        except Exception:  # noqa: S110 - a storage that takes no conditions; what else fails here fails again below
            pass
    target.fs.pipe_file(target.path, content)
