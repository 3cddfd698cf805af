"""Directories for the files of one attempt, which the next one on this worker removes where an attempt was killed."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "siliconflow-"
# A directory without this file may be anybody's, whatever its name is.
LOCK = ".siliconflow-attempt.lock"


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a directory that only this user can read, and remove it afterwards.

    While it is used, this process holds the lock of a file in it. The kernel lets go of that when the process dies,
    however it dies, so what no process uses is known in every container that shares the directory, and on NFS.
    """
    path, descriptor = _locked_directory()
    try:
        _remove_leftovers(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _locked_directory() -> tuple[Path, int]:
    """Make a directory and lock it. Try again if another attempt removed it before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _lock(descriptor) is not False and _is_there(path / LOCK, descriptor):
                return path, descriptor
            os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Take a lock; False when another process has it, None when the disk knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_there(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _remove_leftovers(own: Path) -> None:
    """Remove the directories of killed processes. A failure is of no account: the next attempt tries again."""
    for path in own.parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = path.lstat()
            if path != own and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                _remove_unused(path)


def _remove_unused(path: Path) -> None:
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if _lock(descriptor):
            _remove(path)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    size = sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))
    shutil.rmtree(path)
    log.info("removed %s, %d bytes, which an attempt that was killed has left", path, size)
