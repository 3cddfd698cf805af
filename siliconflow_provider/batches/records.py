"""What has been created, written down: the second witness, beside the batches' own metadata."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, Protocol

import msgspec

from siliconflow_provider.api import clock
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches.metadata import AIRFLOW_INPUT, AIRFLOW_KEY, AIRFLOW_MAX_TRIES, AIRFLOW_ROUND
from siliconflow_provider.job_directory import INTERNAL, Files

log = logging.getLogger(__name__)

CREATES = f"{INTERNAL}/creates"
CONCURRENT_READS = 16
IDENTIFYING = (AIRFLOW_INPUT, AIRFLOW_ROUND, AIRFLOW_MAX_TRIES)

State = Literal["sent", "created", "refused"]


class CreateRecord(msgspec.Struct, frozen=True):
    """One create: written before it is sent, and again once its answer is known.

    :param name: of this create, unique among all attempts
    :param metadata: that it was sent with
    :param sent_at: Unix seconds, by the worker's clock
    :param state: `sent` while no answer has come that tells, `refused` when nothing was created
    :param is_limited: whether the answer was a 429, after which hardly ever something was created
    """

    name: str
    metadata: dict[str, str]
    sent_at: int
    state: State = "sent"
    batch_id: str | None = None
    is_limited: bool = False

    def is_of_same_create(self, metadata: Mapping[str, str], keys: Collection[str]) -> bool:
        """Whether a create with this metadata is the same one, unless a person has cleared the task in between.

        :param keys: of the submitter
        """
        return self.metadata.get(AIRFLOW_KEY) in keys and all(
            self.metadata.get(name) == metadata.get(name) for name in IDENTIFYING
        )


class Records(Protocol):
    """Where an attempt writes down what it creates.

    `is_persistent` says whether a later attempt can read it.
    """

    is_persistent: bool

    def read(self) -> list[CreateRecord]: ...
    def write(self, record: CreateRecord) -> None: ...


class MemoryRecords:
    """Records of one attempt, for a task that has no place to write to."""

    is_persistent = False

    def __init__(self) -> None:
        self._records: dict[str, CreateRecord] = {}

    def read(self) -> list[CreateRecord]:
        """Return what this attempt has written."""
        return list(self._records.values())

    def write(self, record: CreateRecord) -> None:
        """Keep a record, in place of an earlier one with its name."""
        self._records[record.name] = record


class FileRecords:
    """Records of a job: a small file for each create, which every attempt can read at once."""

    is_persistent = True

    def __init__(self, files: Files) -> None:
        self._files = files

    def read(self) -> list[CreateRecord]:
        """Return what all attempts have written."""

        def read_one(name: str) -> CreateRecord | None:
            # Another attempt may just have written it again.
            self._files.discard(f"{CREATES}/{name}")
            return self._files.read_json(f"{CREATES}/{name}", CreateRecord)

        names = [each for each in self._files.names(CREATES) if each.endswith(".json")]
        with ThreadPoolExecutor(CONCURRENT_READS) as pool:
            return [each for each in pool.map(read_one, names) if each is not None]

    def write(self, record: CreateRecord) -> None:
        """Publish a record, in place of an earlier one with its name."""
        self._files.publish_json(f"{CREATES}/{record.name}.json", record)


def new_record(metadata: Mapping[str, str]) -> CreateRecord:
    """Return the record of a create that is about to be sent."""
    return CreateRecord(uuid.uuid4().hex, dict(metadata), clock.now().int_timestamp)


def write_outcome(records: Records, record: CreateRecord, state: State, batch_id: str | None = None) -> None:
    """Write down what a create has come to. A failure is a warning: what was created is known all the same."""
    try:
        records.write(msgspec.structs.replace(record, state=state, batch_id=batch_id))
    except Exception as error:
        log.warning("could not write down that batch %s was created: %s", batch_id or "(none)", error)


def with_metadata(batch: Batch, record: CreateRecord) -> Batch:
    """Return a batch with the metadata it was created with, where the service does not show all of it."""
    if record.metadata.items() <= batch.metadata.items():
        return batch
    return replace(batch, metadata={**batch.metadata, **record.metadata})
