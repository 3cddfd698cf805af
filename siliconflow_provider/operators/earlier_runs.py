"""Find the earlier runs that `reuse_from` names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siliconflow_provider.api.redaction import without_credentials
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.job_directory import MANIFEST, RESULTS_OF_FORMAT
from siliconflow_provider.jobs import EarlierRun, ReuseError
from siliconflow_provider.storage import Workspace, is_same, matching_directories, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

log = logging.getLogger(__name__)
ARGUMENT = "reuse_from"
# A template that gives nothing, such as one for the run before the first one.
_NOTHING = (None, "", "None")


def find_earlier_runs(reuse_from: Any, output_path: ObjectStoragePath, local: Path) -> list[EarlierRun]:
    """Return the earlier runs in the order in which their answers are preferred.

    The directories of a pattern come in the reverse order of their names, so that the newest day comes first. The
    task's own directory is left out.

    :param reuse_from: the rendered argument: a path, a summary of the operator, or a list of them
    :param local: an empty directory for local copies
    :raises ReuseError: if it is neither
    """
    runs: list[EarlierRun] = []
    for path, is_required in _directories(reuse_from):
        if is_same(path, output_path):
            continue
        copies = local / f"{ARGUMENT}-{len(runs)}"
        copies.mkdir(mode=0o700)
        name = printable(without_credentials(str(path)))
        runs.append(EarlierRun(name, Workspace(path, copies, ARGUMENT), is_required))
    return runs


def _directories(reuse_from: Any) -> Iterator[tuple[ObjectStoragePath, bool]]:
    """Yield each directory, and whether it has to exist."""
    for given in reuse_from if isinstance(reuse_from, (list, tuple)) else [reuse_from]:
        if given in _NOTHING:
            continue
        path = storage_path(_path_text(given), ARGUMENT)
        if "*" not in path.path:
            yield (path.parent if path.name in (MANIFEST, *RESULTS_OF_FORMAT.values()) else path), True
            continue
        found = matching_directories(path, ARGUMENT)
        if not found:
            log.warning("reuse_from matches no directory: %s. No answer is reused", without_credentials(str(path)))
        yield from ((directory, False) for directory in reversed(found))


def _path_text(given: Any) -> str:
    text = given.get("results_path") if isinstance(given, Mapping) else given
    if not isinstance(text, str):
        raise ReuseError(
            f"reuse_from has {type(given).__name__}: give the output_path of an earlier run, a pattern with *, or a "
            "list of these. Nothing was submitted"
        )
    return text
