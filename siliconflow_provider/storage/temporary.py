"""Create a temporary directory for each attempt, and remove those of killed attempts."""

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

from siliconflow_provider.wording import counted

log = logging.getLogger(__name__)

PREFIX = "siliconflow-"
# A directory without this file may belong to another program, even if its name matches.
LOCK = ".siliconflow-attempt.lock"


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Create a directory that only this user can read, and remove it afterwards.

    While the directory is used, this process locks a file in it. The kernel releases the lock when the process ends,
    even if it is killed. So a directory without a lock is unused, also on NFS and in containers that share a disk.
    """
    path, descriptor = _locked_directory()
    try:
        _remove_leftovers(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _locked_directory() -> tuple[Path, int]:
    """Create a directory and lock it. Try again if another attempt removed it before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _lock(descriptor) is not False and _is_same_file(path / LOCK, descriptor):
                return path, descriptor
            os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file. Return False if another process holds the lock, None if the disk does not support locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_same_file(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _remove_leftovers(own: Path) -> None:
    """Remove the directories of killed processes. Ignore failures: the next attempt tries again."""
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
    size = sum(file.lstat().st_blocks * 512 for file in path.rglob("*"))
    shutil.rmtree(path)
    log.info("removed %s (%s) of a killed attempt", path, counted(size, "byte"))
