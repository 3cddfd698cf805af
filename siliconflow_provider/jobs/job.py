"""What a job is: its requests, its rounds, and what it was defined by. What was submitted, only the service says."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec

from siliconflow_provider.inputs import Part


class Round(msgspec.Struct, frozen=True):
    """Requests that are sent together, in a file of their own.

    :param number: 1 for all requests of the job
    :param max_tries: of the task when the round was planned: they grow when a person clears the task
    :param planned_at: Unix seconds
    :param indexes: the job's position of each line of the round's file; empty where they are equal, as in a round 1
        that sends all requests
    """

    number: int
    parts: list[Part]
    max_tries: int
    planned_at: int
    indexes: list[int] = []

    def indexes_of(self, part: Part) -> range | list[int]:
        """Return the job's position of each line of a part."""
        if not self.indexes:
            return range(part.first, part.first + part.lines)
        return self.indexes[part.first : part.first + part.lines]


class Inherited(msgspec.Struct, frozen=True):
    """What a job has from the one that it replaced.

    :param rows: how many of its requests were answered there
    :param parts: the file of all requests, cut as if all were sent
    :param collected: ids of batches that are over and whose answers were kept; they are never those of a part again
    :param others: ids of further batches that the task had then
    """

    rows: int = 0
    parts: list[Part] = []
    collected: list[str] = []
    others: list[str] = []


class Job(msgspec.Struct, frozen=True):
    """What `_siliconflow/job.json` holds.

    :param key: of the task instance, as in its batches' metadata
    :param task: the task instance for people
    :param definition: hashes of what the job was made by, by their name
    :param completion_window: of its batches; None in jobs of version 0.1.0
    :param directory: of its own files, below the directory of all jobs' files; empty for the first job
    :param inherited: None where there was no job before
    """

    key: str
    task: str
    definition: dict[str, str]
    requests: int
    has_rows: bool
    first_round: Round
    completion_window: str | None = None
    directory: str = ""
    inherited: Inherited | None = msgspec.field(default=None, name="kept")
    schema_version: Literal[1] = 1

    @property
    def id(self) -> str:
        """Names this job, so that files of another one are not taken for its own."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    @property
    def all_requests(self) -> Round:
        """The job's requests as one round, also where round 1 sends only some of them."""
        if self.inherited is None or not self.inherited.rows:
            return self.first_round
        return Round(1, self.inherited.parts, self.first_round.max_tries, self.first_round.planned_at)

    def changes(self, keys: Collection[str], definition: Mapping[str, str]) -> list[str]:
        """Return the names of what is defined otherwise than it was.

        :param keys: of the task instance as it is now
        :param definition: a hash that is empty cannot be told, and is no change
        """
        changed = [
            name for name, value in definition.items()
            if value != self.definition.get(name) and value and self.definition.get(name) != ""
        ]  # fmt: skip
        return changed if self.key in keys else ["submission_key", *changed]


class PlannedRound(msgspec.Struct, frozen=True):
    """What the file of a later round holds.

    :param job_id: the job that it belongs to
    """

    job_id: str
    round: Round


def fingerprint(value: Any) -> str:
    """Return a short hash of any value that can be written as JSON, or as text."""
    return hashlib.sha256(msgspec.json.encode(value, enc_hook=repr, order="deterministic")).hexdigest()[:16]


def describe_changes(url: str, changes: Sequence[str]) -> str:
    """Say that a job is not that of its task any more, and what a person can do.

    :param url: of the job's file
    :param changes: names of what is defined otherwise
    """
    kept = (
        "a cleared task starts a new job that submits everything again"
        if "submission_key" in changes
        else "a cleared task starts a new job, which keeps each answer to a request that is still the same and sends "
        "the others"
    )
    return (
        f"{', '.join(changes)} changed since {url} was created, and a retry submits no different job. Undo the change "
        f"to go on with this job, or clear the task: {kept}"
    )
