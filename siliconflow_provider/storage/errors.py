"""Turn errors of object storage and disks into errors that name the path and the remedy.

StorageError (OSError)
└── MissingFileError (FileNotFoundError)
"""

from __future__ import annotations

import errno
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from siliconflow_provider.api.redaction import without_credentials, without_credentials_of, without_queries
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.job_directory import TEMPORARY_ERRORS

Action = Literal["read", "write", "use"]

_PACKAGES = {
    **dict.fromkeys(("s3", "s3a", "s3n"), "apache-airflow-providers-amazon[s3fs]"),
    **dict.fromkeys(("gs", "gcs"), "apache-airflow-providers-google"),
    **dict.fromkeys(("abfs", "abfss", "adl"), "apache-airflow-providers-microsoft-azure"),
}
# By name, since the storage libraries may not be installed.
_MISSING_CREDENTIALS = {
    "ClientAuthenticationError",
    "CredentialRetrievalError",
    "DefaultCredentialsError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "TokenRetrievalError",
}
_UNKNOWN_SCHEME = re.compile("No filesystem registered|Unsupported filesystem")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCAL_SCHEMES = ("file", "local")
_ERRORS_OF_A_FILE = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
LONGEST_REASON = 300


class StorageError(OSError):
    """A file could not be read or written. A retry may succeed.

    :ivar is_temporary: True if the disk or the network failed, so that other files are affected, too
    """

    is_temporary = False


class MissingFileError(StorageError, FileNotFoundError):
    """The file does not exist."""


@contextmanager
def storage_errors(action: Action, argument: str, path: object) -> Iterator[None]:
    """Turn errors of a storage inside the block into a StorageError.

    :param argument: the operator's argument with the path
    :param path: the file or directory
    """
    try:
        yield
        return
    except StorageError:
        raise
    except Exception as error:
        failure = _storage_error(error, action, argument, path)
    raise failure from None


@contextmanager
def temporary_disk() -> Iterator[None]:
    """Turn the error of a full disk into one that names the directory of temporary files.

    `storage_errors` handles all other disks.
    """
    try:
        yield
        return
    except OSError as error:
        if isinstance(error, StorageError) or error.errno not in _FULL:
            raise
    raise _full_temporary_disk() from None


def _storage_error(error: Exception, action: Action, argument: str, path: object) -> StorageError:
    if action == "read" and getattr(error, "errno", None) in _FULL:
        # Reading fills only the disk of the local copy.
        return _full_temporary_disk()
    kind = MissingFileError if action == "read" and isinstance(error, FileNotFoundError) else StorageError
    text = without_credentials(str(path))
    scheme = text.partition("://")[0] if "://" in text else "file"
    cause, remedy = _cause_and_remedy(error, _reason(error, str(path)), action, scheme)
    failure = kind(printable(f"cannot {action} {argument} {text}: {cause}: {remedy}"))
    is_remote = scheme not in _LOCAL_SCHEMES
    failure.is_temporary = getattr(error, "errno", None) in TEMPORARY_ERRORS or (
        is_remote and not isinstance(error, _ERRORS_OF_A_FILE)
    )
    return failure


def _cause_and_remedy(error: Exception, reason: str, action: Action, scheme: str) -> tuple[str, str]:
    names = {base.__name__ for base in type(error).__mro__}
    if isinstance(error, ImportError) or _UNKNOWN_SCHEME.search(str(error)):
        package = _PACKAGES.get(scheme)
        remedy = f"install {package}" if package else "correct the scheme, or install the Airflow provider for it"
        return f"no file system for {scheme}:// is installed", remedy
    if names & _MISSING_CREDENTIALS:
        return (
            f"there are no valid credentials ({reason})",
            f"set them in an Airflow connection and name it, as in {scheme}://conn_id@bucket/key",
        )
    return (_local if scheme in _LOCAL_SCHEMES else _remote)(error, reason, action)


def _local(error: Exception, reason: str, action: Action) -> tuple[str, str]:
    reason = getattr(error, "strerror", None) or reason
    if isinstance(error, FileNotFoundError):
        if action == "write":
            return "a directory of the path does not exist and cannot be created", "correct the path"
        return "the file does not exist", "correct the path, or create the file first"
    if isinstance(error, IsADirectoryError):
        return (
            "it is a directory",
            "give the path of a file" if action == "read" else "remove it, or choose another path",
        )
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return "a part of the path is a file", "remove it, or choose another path"
    if getattr(error, "errno", None) in _FULL:
        return f"the disk is full ({reason})", "free space, or choose a path on another disk"
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return reason, f"let the user that runs Airflow's worker {action} there, or choose another path"
    return reason, "correct the path, or check the worker's disk"


def _remote(error: Exception, reason: str, action: Action) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError):
        if action == "write":
            return "the bucket does not exist", "create it, or correct the path"
        return "the file or the bucket does not exist", "correct the path, or create the file first"
    if isinstance(error, IsADirectoryError):
        return "it is a directory", "give the path of a file"
    if isinstance(error, PermissionError):
        return (
            f"access was refused ({reason})",
            f"check the credentials of the Airflow connection, and their permission to {action} there",
        )
    return reason, "check the storage's endpoint and the network, and retry"


def _full_temporary_disk() -> StorageError:
    failure = StorageError(
        f"no space left on the worker's disk of temporary files, {tempfile.gettempdir()}: free space there, or set "
        "the environment variable TMPDIR to a directory on a larger disk"
    )
    failure.is_temporary = True
    return failure


def _reason(error: Exception, path: str) -> str:
    text = without_queries(without_credentials_of(path, str(error))).strip()
    name = type(error).__name__
    return f"{name}: {text[:LONGEST_REASON]}" if text else name
