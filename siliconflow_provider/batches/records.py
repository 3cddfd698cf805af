"""Records of create requests. With them an attempt finds its batches even if the list does not show them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from siliconflow_provider.api import clock
from siliconflow_provider.api.models import Batch
from siliconflow_provider.api.redaction import shown_error
from siliconflow_provider.batches.metadata import AIRFLOW_INPUT, AIRFLOW_KEY, AIRFLOW_MAX_TRIES, AIRFLOW_ROUND
from siliconflow_provider.job_directory import INTERNAL, JobDirectory

log = logging.getLogger(__name__)

CREATES = f"{INTERNAL}/creates"
CONCURRENT_READS = 16
IDENTIFYING = (AIRFLOW_INPUT, AIRFLOW_ROUND, AIRFLOW_MAX_TRIES)

State = Literal["sent", "created", "refused"]


class CreateRecord(msgspec.Struct, frozen=True):
    """Record of one create request. It is written before the request is sent, and again after the response.

    :param name: unique name of this request among all attempts
    :param metadata: metadata of the batch in the request
    :param sent_at: Unix time by the worker's clock
    :param state: `sent` while the outcome is unknown, `created`, or `refused` if nothing was created
    :param attempt: identifies the attempt that sent it; None if it is unknown, as in records of earlier versions
    :param is_limited: True if the response was a 429; then a batch was very rarely created
    """

    name: Annotated[str, Meta(pattern=r"^[\w-]{1,64}\Z")]
    metadata: dict[str, str]
    sent_at: int
    state: State = "sent"
    batch_id: str | None = None
    is_limited: bool = False
    attempt: str | None = None

    def is_of_same_create(self, metadata: Mapping[str, str], keys: Collection[str]) -> bool:
        """Return True if this record is of the same submission as the metadata, before any clearing of the task.

        :param keys: keys of the submitter
        """
        return self.metadata.get(AIRFLOW_KEY) in keys and all(
            self.metadata.get(name) == metadata.get(name) for name in IDENTIFYING
        )


class Records(Protocol):
    """Store for create records.

    `is_persistent` is True if later attempts can read the records.
    """

    is_persistent: bool

    def read(self) -> list[CreateRecord]: ...
    def write(self, record: CreateRecord) -> None: ...


class MemoryRecords:
    """Create records in memory, for a task without a persistent store."""

    is_persistent = False

    def __init__(self) -> None:
        self._records: dict[str, CreateRecord] = {}

    def read(self) -> list[CreateRecord]:
        """Return the records of this attempt."""
        return list(self._records.values())

    def write(self, record: CreateRecord) -> None:
        """Keep a record. It replaces an earlier record of the same name."""
        self._records[record.name] = record


class FileRecords:
    """Create records of a job, one small file each, which concurrent attempts can read."""

    is_persistent = True

    def __init__(self, files: JobDirectory) -> None:
        self._files = files

    def read(self) -> list[CreateRecord]:
        """Return the records of all attempts."""

        def read_one(name: str) -> CreateRecord | None:
            # Drop the local copy: another attempt may just have rewritten the file.
            self._files.discard(f"{CREATES}/{name}")
            return self._files.read_json(f"{CREATES}/{name}", CreateRecord)

        names = [name for name in self._files.names(CREATES) if name.endswith(".json")]
        with ThreadPoolExecutor(CONCURRENT_READS) as pool:
            return [record for record in pool.map(read_one, names) if record is not None]

    def write(self, record: CreateRecord) -> None:
        """Write a record to its file. It replaces an earlier record of the same name."""
        self._files.publish_json(f"{CREATES}/{record.name}.json", record)


def new_record(metadata: Mapping[str, str], attempt: str | None = None) -> CreateRecord:
    """Return the record of a create request that is about to be sent."""
    return CreateRecord(uuid.uuid4().hex, dict(metadata), clock.now().int_timestamp, attempt=attempt)


def write_outcome(records: Records, record: CreateRecord, state: State, batch_id: str | None = None) -> None:
    """Write the outcome of a create request. A failure is only a warning, since this attempt knows the outcome."""
    try:
        records.write(msgspec.structs.replace(record, state=state, batch_id=batch_id))
    except Exception as error:
        log.warning("could not record the outcome of a create (batch %s): %s", batch_id or "none", shown_error(error))


def with_metadata(batch: Batch, record: CreateRecord) -> Batch:
    """Return a batch with the metadata of its create request added, in case the service does not show all of it."""
    if record.metadata.items() <= batch.metadata.items():
        return batch
    return replace(batch, metadata={**batch.metadata, **record.metadata})
