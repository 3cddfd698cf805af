"""Store the emulator's records in SQLite, so that a killed process loses nothing."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from siliconflow_provider.emulator.state import Batch

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (sequence INTEGER PRIMARY KEY, id TEXT UNIQUE, record BLOB);
CREATE TABLE IF NOT EXISTS batches (
    sequence INTEGER PRIMARY KEY, id TEXT UNIQUE, output_id TEXT UNIQUE, error_id TEXT UNIQUE, record BLOB
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value BLOB);
"""


@dataclass(frozen=True)
class UploadedFile:
    """The record of an uploaded file."""

    id: str
    filename: str
    bytes: int
    created_at: float


class Database:
    """The records of files and batches. One thread at a time uses the connection."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing. Only a machine that crashes would, and tests would wait for the disk.
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        """Close the connection. The database cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def add_file(self, file: UploadedFile) -> None:
        """Store the record of a new file."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO files (id, record) VALUES (?, ?)", (file.id, msgspec.json.encode(file)))

    def file(self, file_id: str) -> UploadedFile | None:
        """Return the uploaded file with this id, or None."""
        rows = self._rows("SELECT record FROM files WHERE id = ?", file_id)
        return msgspec.json.decode(rows[0], type=UploadedFile) if rows else None

    def files(self) -> list[UploadedFile]:
        """Return all uploaded files, newest first."""
        rows = self._rows("SELECT record FROM files ORDER BY sequence DESC")
        return [msgspec.json.decode(row, type=UploadedFile) for row in rows]

    def add_batch(self, batch: Batch) -> None:
        """Store a new batch."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO batches (id, output_id, error_id, record) VALUES (?, ?, ?, ?)",
                (batch.id, batch.output_id, batch.error_id, msgspec.json.encode(batch)),
            )

    def batch(self, batch_id: str) -> Batch | None:
        """Return the batch with this id, or None."""
        rows = self._rows("SELECT record FROM batches WHERE id = ?", batch_id)
        return msgspec.json.decode(rows[0], type=Batch) if rows else None

    def batch_of_result(self, file_id: str) -> Batch | None:
        """Return the batch whose output or error file has this id, or None."""
        rows = self._rows("SELECT record FROM batches WHERE ? IN (output_id, error_id)", file_id)
        return msgspec.json.decode(rows[0], type=Batch) if rows else None

    def batches(self, after: str | None, limit: int, created_by: float) -> list[Batch]:
        """Return batches older than the batch `after`, newest first. A negative limit returns all."""
        rows = self._rows(
            "SELECT record FROM batches WHERE (? IS NULL OR sequence < (SELECT sequence FROM batches"
            " WHERE id = ?)) AND json_extract(CAST(record AS TEXT), '$.created_at') <= ?"
            " ORDER BY sequence DESC LIMIT ?",
            after,
            after,
            created_by,
            limit,
        )
        return [msgspec.json.decode(row, type=Batch) for row in rows]

    def batch_ids(self, before: str | None) -> list[str]:
        """Return the ids of all batches, or of those created before the batch `before`, oldest first."""
        return self._rows(
            "SELECT id FROM batches WHERE ? IS NULL OR sequence < (SELECT sequence FROM batches"
            " WHERE id = ?) ORDER BY sequence",
            before,
            before,
        )

    def change_batch(self, batch_id: str, change: Callable[[Batch], Batch]) -> Batch:
        """Replace a batch by the return value of `change`, in one transaction."""
        with self._transaction() as connection:
            row = connection.execute("SELECT record FROM batches WHERE id = ?", (batch_id,)).fetchone()
            changed = change(msgspec.json.decode(row[0], type=Batch))
            connection.execute("UPDATE batches SET record = ? WHERE id = ?", (msgspec.json.encode(changed), batch_id))
        return changed

    def secret(self, name: str) -> bytes:
        """Return a random secret, which is created at its first use and then stored."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, secrets.token_bytes(32)))
            row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return bytes(row[0])

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return [row[0] for row in self._connection.execute(query, values).fetchall()]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
