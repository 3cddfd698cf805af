"""The requests of a job's rounds, as local files that are known to be what was planned."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from siliconflow_provider.inputs import FilePart, Part
from siliconflow_provider.job_directory import REQUESTS, JobDirectory, job_file_name, requests_name
from siliconflow_provider.jobs.job import Round


class RequestsLostError(ValueError):
    """A file that a job needs is gone or another one. It is neither submitted nor merged; a retry looks again."""


class RequestFiles:
    """Local copies of the requests of a job's rounds, known to be what was planned.

    :param directory: of the job's own files
    """

    def __init__(self, files: JobDirectory, directory: str = "") -> None:
        self._files = files
        self._directory = directory
        self._checked: set[str] = set()

    def path(self, round_: Round) -> Path:
        """Return the file of a round.

        :raises RequestsLostError: when it is gone or was changed
        """
        name = job_file_name(REQUESTS if sends_all_requests(round_) else requests_name(round_.number), self._directory)
        path = self._files.fetch(name)
        if path is None:
            raise RequestsLostError(
                f"{self._files.url(name)} is gone: put it back, or start a new job in another output_path"
            )
        if name not in self._checked:
            if not all(map(partial(_is_unchanged, path), round_.parts)):
                raise RequestsLostError(
                    f"{self._files.url(name)} of this job was changed: put back what it was, or start a new job in "
                    "another output_path"
                )
            self._checked.add(name)
        return path

    def release(self) -> None:
        """Remove the copies, to make room; who asks again gets a new one."""
        for name in self._checked:
            self._files.discard(name)
        self._checked.clear()


def sends_all_requests(round_: Round) -> bool:
    """Whether a round's requests are all of the job's."""
    return round_.number == 1 and not round_.indexes


def _is_unchanged(path: Path, part: Part) -> bool:
    with FilePart(path, part) as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == part.sha256
