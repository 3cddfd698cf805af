"""What a job is: its requests, its rounds, and what it was defined by. What was submitted, only the service says."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from siliconflow_provider.jobs.parts import Part


class Round(msgspec.Struct, frozen=True):
    """Requests that are sent together, in a file of their own.

    :param number: 1 for all requests of the job
    :param max_tries: of the task when the round was planned: they grow when a person clears the task
    :param planned_at: Unix seconds
    :param indexes: the job's position of each line of the round's file; empty in round 1, where they are equal
    """

    number: int
    parts: list[Part]
    max_tries: int
    planned_at: int
    indexes: list[int] = []

    def indexes_of(self, part: Part) -> range | list[int]:
        """Return the job's position of each line of a part."""
        if self.number == 1:
            return range(part.first, part.first + part.lines)
        return self.indexes[part.first : part.first + part.lines]


class Job(msgspec.Struct, frozen=True):
    """What `_siliconflow/job.json` holds.

    :param key: of the task instance, as in its batches' metadata
    :param task: the task instance for people
    :param definition: hashes of what the job was made by, by their name
    """

    key: str
    task: str
    definition: dict[str, str]
    requests: int
    has_rows: bool
    first_round: Round
    schema_version: Literal[1] = 1

    @property
    def id(self) -> str:
        """Names this job, so that files of another one are not taken for its own."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    def changes(self, definition: dict[str, str]) -> list[str]:
        """Return the names of what is defined otherwise than it was."""
        return [name for name in definition if definition[name] != self.definition.get(name)]


class PlannedRound(msgspec.Struct, frozen=True):
    """What the file of a later round holds.

    :param job_id: the job that it belongs to
    """

    job_id: str
    round: Round


def fingerprint(value: Any) -> str:
    """Return a short hash of any value that can be written as JSON, or as text."""
    return hashlib.sha256(msgspec.json.encode(value, enc_hook=repr, order="deterministic")).hexdigest()[:16]
