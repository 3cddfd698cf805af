"""Define a job: its requests, rounds and definition. The service is the only source for its batches."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, structs

from siliconflow_provider.inputs import Part, positions_of_lines

# Arguments' names in a job's definition.
BAD_ITEMS, CONNECTION = "bad_items", "connection"


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reason why requests of a round have no good answer.

    :param message: of the first of these requests
    :param count: the number of these requests
    :param first_index: the position of the first of them in the job
    :param http_status: HTTP status of the request's own response, if it has one
    """

    status: str
    code: str | None
    message: str
    count: int
    first_index: int
    http_status: int | None = None

    def to_report(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        return {"status": self.status, "code": self.code, "message": self.message, "count": self.count}


class Round(msgspec.Struct, frozen=True):
    """Requests that are sent together, in one file.

    :param number: 1 for all requests of the job
    :param max_tries: the task's `max_tries` when the round was planned; clearing the task increases it
    :param planned_at: Unix seconds
    :param indexes: the position in the job of each line of the round's file; empty if the round sends all requests
    :param reasons: why these requests are resent; unset in round 1, and so not part of the job's id
    :param rejected: of the first round, the positions in the job of the items that are never sent
    """

    number: int
    parts: list[Part]
    max_tries: int
    planned_at: int
    indexes: list[int] = []
    reasons: list[Reason] | msgspec.UnsetType = msgspec.UNSET
    # Absent unless there are some: the id of a job that has none must not change.
    rejected: list[int] | msgspec.UnsetType = msgspec.UNSET

    def to_report(self) -> dict[str, Any]:
        """Return the manifest's entry of a later round."""
        reasons = [reason.to_report() for reason in self.reasons or []]
        return {"round": self.number, "requests": len(self.indexes), "reasons": reasons}

    def indexes_of(self, part: Part) -> range | list[int]:
        """Return the position in the job of each line of a part."""
        if not self.indexes:
            return positions_of_lines(part.first, part.lines, self.rejected or ())
        return self.indexes[part.first : part.first + part.lines]


class Inherited(msgspec.Struct, frozen=True):
    """State that a job takes over from earlier jobs.

    :param rows: the number of its requests that earlier jobs answered
    :param parts: the parts of the file of all requests, as if all were sent
    :param collected: ids of batches that are over and whose answers were reused; no part ever gets them again
    :param others: ids of the other batches that the task had at that time
    """

    rows: int = 0
    parts: list[Part] = []
    collected: list[str] = []
    others: list[str] = []


class Reuse(msgspec.Struct, frozen=True):
    """Requests that a job does not send because of `reuse_from` or `deduplicate`.

    :param rows: the number of requests that earlier runs answered; they are among the inherited rows
    :param duplicates: the number of requests that get the row of an equal request
    """

    rows: int = 0
    duplicates: int = 0


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """A request that gets the row of an equal one.

    :param index: the position of the request
    :param sent: the position of the equal request, which is sent
    """

    index: int
    sent: int
    custom_id: str


class Job(msgspec.Struct, frozen=True):
    """The content of `_siliconflow/job.json`.

    :param key: the key of the task instance, as in its batches' metadata
    :param task: the task instance, as people read it
    :param definition: hashes of the task's arguments, by name
    :param requests: the number of its items, each with one result row
    :param completion_window: the window of its batches; None in jobs of version 0.1.0
    :param directory: the directory of its files, below that of all jobs' files; empty for the first job
    :param inherited: None if it takes over nothing
    :param model: the model of its requests
    :param estimate: tokens and cost, as they were estimated before the job
    :param input_schema: the Arrow schema of the input's columns, serialized; unset if the input had none
    :param reuse: unset if the task has neither `reuse_from` nor `deduplicate`
    """

    key: str
    task: str
    definition: dict[str, str]
    requests: int
    has_rows: bool
    first_round: Round
    completion_window: str | None = None
    # It becomes a part of a path, and job.json may come from others.
    directory: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")] = ""
    inherited: Inherited | None = msgspec.field(default=None, name="kept")
    model: str | msgspec.UnsetType = msgspec.UNSET
    estimate: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    # An unset field is not encoded: the ids of jobs without it stay the same.
    reuse: Reuse | msgspec.UnsetType = msgspec.UNSET
    schema_version: Literal[1] = 1
    # Unset fields are not encoded, so that the ids of jobs without this field stay.
    input_schema: bytes | msgspec.UnsetType = msgspec.UNSET

    @property
    def id(self) -> str:
        """Identify this job, so that it does not read another job's files as its own."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    @property
    def service(self) -> str | None:
        """The hash of the service's address; None in definitions without it."""
        return self.definition.get(CONNECTION)

    @property
    def known_input_schema(self) -> bytes | None:
        """The Arrow schema of the input's columns, serialized; None if it is unknown."""
        return None if self.input_schema is msgspec.UNSET else self.input_schema

    @property
    def all_requests(self) -> Round:
        """The job's requests as one round, even if round 1 sends only some of them."""
        if self.inherited is None or not self.inherited.parts:
            return self.first_round
        return structs.replace(self.first_round, parts=self.inherited.parts, indexes=[])

    @property
    def rejected(self) -> Sequence[int]:
        """The positions of the items that are never sent. The file of all requests does not have them."""
        return self.first_round.rejected or ()

    @property
    def sent(self) -> int:
        """The number of requests that round 1 sends."""
        return sum(part.lines for part in self.first_round.parts)

    @property
    def has_reused_rows(self) -> bool:
        """True if the job's rows say whether they were reused."""
        return self.reuse is not msgspec.UNSET

    @property
    def duplicates(self) -> int:
        """The number of requests that get the row of an equal request."""
        return 0 if self.reuse is msgspec.UNSET else self.reuse.duplicates

    @property
    def reused(self) -> int:
        """The number of requests that earlier runs answered."""
        return 0 if self.reuse is msgspec.UNSET else self.reuse.rows

    @property
    def kept(self) -> int:
        """The number of requests that the replaced job answered."""
        return 0 if self.inherited is None else self.inherited.rows - self.reused

    def changes(self, keys: Collection[str], definition: Mapping[str, str]) -> list[str]:
        """Return the names of the arguments that changed since the job was created.

        :param keys: the keys of the task instance now
        :param definition: hashes now; an empty hash is unknown, and counts as unchanged
        """
        # The task had no such argument when the job was created, which is as if it had been None.
        absent = fingerprint(None)
        changed = [
            name for name, value in definition.items()
            if value and self.definition.get(name, absent) not in ("", value)
        ]  # fmt: skip
        return changed if self.key in keys else ["submission_key", *changed]


class PlannedRound(msgspec.Struct, frozen=True):
    """The content of a later round's file.

    :param job_id: the id of the job that the round belongs to
    """

    job_id: str
    round: Round


def fingerprint(value: Any) -> str:
    """Return a short hash of a value. A value that JSON cannot hold is hashed by its `repr`."""
    return hashlib.sha256(msgspec.json.encode(value, enc_hook=repr, order="deterministic")).hexdigest()[:16]


def describe_changes(url: str, changes: Sequence[str]) -> tuple[str, str]:
    """Return a sentence that names the changed arguments of a job, and another one with what a person can do.

    :param url: the URL of the job's file
    :param changes: names of the changed arguments
    """
    new_job = "reuses the answers to requests that are still the same, and sends the others"
    if CONNECTION in changes:
        new_job = "sends all requests that the service of the connection has not answered"
    if "submission_key" in changes:
        new_job = "submits all requests again"
    return (
        f"{', '.join(changes)} changed since {url} was created, and a retry will not submit a different job",
        f"Undo the change to resume this job, or clear the task: then a new job {new_job}",
    )
