from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.jobs.earlier_runs import EarlierRun, Service, reuse_run
from siliconflow_provider.storage.errors import StorageError
from siliconflow_provider.storage.workspace import Workspace


class Unreadable(Workspace):
    """Files that cannot be read."""

    error: Exception

    def fetch(self, name: str) -> Path | None:
        raise self.error


def outage() -> StorageError:
    error = StorageError("cannot read reuse_from s3://b/a: timed out")
    error.is_temporary = True
    return error


@pytest.fixture
def reuse(workspace: Callable[[], Workspace]) -> Callable[..., None]:
    """Reuse answers of a directory whose files cannot be read."""

    def reuse(error: Exception, *, is_required: bool) -> None:
        files = Unreadable(workspace().directory, workspace().local)
        files.error = error
        rows: Any = None
        reuse_run(EarlierRun("s3://b/a", files, is_required), rows, Service("https://api/v1", "hash"))

    return reuse


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageError("it is a directory"), "it is a directory"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "[Errno 13] Permission denied: '/a'"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "[Errno 36] File name too long"),
        (ValueError("embedded\nnull byte"), "embedded null byte"),
    ],
)
def test_one_unusable_directory_is_a_warning(
    reuse: Any, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If a pattern matches it."""
    caplog.set_level(logging.WARNING)
    reuse(error, is_required=False)
    assert caplog.messages == [f"reusing no answers of s3://b/a: {reason}"]
    with pytest.raises(type(error)):
        reuse(error, is_required=True)


@pytest.mark.parametrize("error", [outage(), OSError(errno.ENOSPC, "No space left on device")], ids=str)
def test_an_outage_does_not_pay_again(reuse: Any, error: Exception) -> None:
    """A retry may still reuse the answers."""
    with pytest.raises(type(error)):
        reuse(error, is_required=False)
