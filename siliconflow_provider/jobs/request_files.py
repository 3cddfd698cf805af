"""Give the requests of a job's rounds as local files that are checked against the plan."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from siliconflow_provider.inputs import FilePart, Part
from siliconflow_provider.job_directory import REQUESTS, JobDirectory, job_file_name, requests_name
from siliconflow_provider.jobs.job import Round


class RequestsLostError(ValueError):
    """A file that a job needs is missing or was changed. It is neither submitted nor merged; a retry reads it again."""


class RequestFiles:
    """Local copies of the requests of a job's rounds, checked against the plan.

    :param directory: the directory of the job's own files
    """

    def __init__(self, files: JobDirectory, directory: str = "") -> None:
        self._files = files
        self._directory = directory
        self._checked: set[str] = set()

    def path(self, round_: Round) -> Path:
        """Return the file of a round.

        :raises RequestsLostError: if it is missing or was changed
        """
        name = job_file_name(REQUESTS if sends_all_requests(round_) else requests_name(round_.number), self._directory)
        path = self._files.fetch(name)
        if path is None:
            raise RequestsLostError(
                f"{self._files.url(name)} is missing: restore it, or start a new job in another output_path"
            )
        if name not in self._checked:
            if not all(map(partial(_is_unchanged, path), round_.parts)):
                raise RequestsLostError(
                    f"{self._files.url(name)} was changed since the job was created: restore it, or start a new job in "
                    "another output_path"
                )
            self._checked.add(name)
        return path

    def release(self) -> None:
        """Remove the copies to free disk space; `path` makes a new one if needed."""
        for name in self._checked:
            self._files.discard(name)
        self._checked.clear()


def sends_all_requests(round_: Round) -> bool:
    """Return True if a round sends all requests of the job."""
    return round_.number == 1 and not round_.indexes


def _is_unchanged(path: Path, part: Part) -> bool:
    with FilePart(path, part) as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == part.sha256
