"""The files of an input: one, those of a directory, or those that a pattern matches."""

from __future__ import annotations

import posixpath
import re

from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.api.redaction import without_credentials
from siliconflow_provider.storage.errors import MissingFileError, storage_errors
from siliconflow_provider.storage.object_storage import is_below, is_special

# Besides data, Spark and others write such files, and so does this package.
_HIDDEN = ("_", ".")


def source_files(path: ObjectStoragePath, argument: str = "input_path") -> list[ObjectStoragePath]:
    """Return the files that a path names, in the order of their names.

    A path with `*` is a pattern, in which `**` matches directories too. Of a directory, the files at every depth are
    taken, but for those below a name that begins with `_` or `.`.

    :param argument: of the operator, for errors
    :raises MissingFileError: when a directory or a pattern has no file
    :raises StorageError: when it cannot be listed
    """
    with storage_errors("read", argument, path):
        path.fs.invalidate_cache()
        if "*" in path.path:
            base = next(parent for parent in path.parents if "*" not in parent.path)
            names = path.fs.glob(_only_stars(path.path))
            names = [name for name in names if path.fs.isfile(name) or is_special(path, name)]
        elif path.fs.isdir(path.path):
            base, names = path, path.fs.find(path.path)
        else:
            return [path]
    found = sorted(filter(_is_visible, (_relative(name, base) for name in names)))
    if not found:
        shown = without_credentials(str(path))
        raise MissingFileError(f"cannot read {argument} {shown}: no file matches it; nothing was submitted")
    return [base / name for name in found]


def matching_directories(pattern: ObjectStoragePath, argument: str) -> list[ObjectStoragePath]:
    """Return the directories that a pattern with `*` matches, in the order of their names.

    :param argument: of the operator, for errors
    :raises StorageError: when the storage cannot be listed
    """
    base = next(parent for parent in pattern.parents if "*" not in parent.path)
    with storage_errors("read", argument, pattern):
        pattern.fs.invalidate_cache()
        names = pattern.fs.glob(_only_stars(pattern.path.rstrip("/")))
        found = [_relative(name, base) for name in names if pattern.fs.isdir(name)]
    return [base / name for name in sorted(filter(_is_visible, found))]


def names_file(path: ObjectStoragePath, file: ObjectStoragePath) -> bool:
    """Return True if an input path that is a directory or a pattern would have this file, whether it exists or not."""
    if "*" not in path.path:
        return is_below(file, path) and path.fs.isdir(path.path)
    pattern = "".join(_STARS.get(part, re.escape(part)) for part in re.split(r"(\*\*/?|\*)", path.path))
    return path.protocol == file.protocol and re.fullmatch(pattern, file.path) is not None


_STARS = {"*": "[^/]*", "**": ".*", "**/": "(.*/)?"}


def _only_stars(pattern: str) -> str:
    """Return a pattern in which the other special characters stand for themselves: names of files may have them."""
    return re.sub(r"[\[?]", lambda found: f"[{found[0]}]", pattern)


def _relative(name: str, base: ObjectStoragePath) -> str:
    return posixpath.relpath("/" + name.lstrip("/"), "/" + base.path.lstrip("/"))


def _is_visible(name: str) -> bool:
    return not any(part.startswith(_HIDDEN) for part in name.split("/"))
