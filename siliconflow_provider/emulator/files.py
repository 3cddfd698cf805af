"""Store uploaded files on disk by id, with a record in the database."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from pathlib import Path

from siliconflow_provider.emulator.database import Database, UploadedFile
from siliconflow_provider.emulator.errors import not_found
from siliconflow_provider.emulator.uploads import Upload

RETENTION_SECONDS = 30 * 24 * 3600


def new_id(prefix: str) -> str:
    """Return a new id in the service's form: the prefix and ten letters."""
    return prefix + "".join(secrets.choice(string.ascii_lowercase) for _ in range(10))


class FileStore:
    """The uploaded files.

    After 30 days, a file is not found any more. Its content stays, because batches may still need it.
    """

    def __init__(self, database: Database, directory: Path, clock: Callable[[], float]) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        self._unfinished = directory / "unfinished"
        self._unfinished.mkdir(parents=True, exist_ok=True)
        for leftover in self._unfinished.iterdir():
            leftover.unlink()

    def receive(self, content_type: str | None) -> Upload:
        """Start an upload with this Content-Type."""
        return Upload(content_type, self._unfinished / new_id("upload-"))

    def keep(self, upload: Upload) -> UploadedFile:
        """Finish an upload, and return its new record."""
        upload.finish()
        file = UploadedFile(new_id("file-"), upload.filename, upload.bytes, self._clock())
        upload.path.replace(self.path(file.id))
        self._database.add_file(file)
        return file

    def list(self) -> list[UploadedFile]:
        """Return all files that are not deleted, newest first."""
        return [file for file in self._database.files() if self._is_kept(file)]

    def get(self, file_id: str) -> UploadedFile:
        """Return the file with this id, or raise a 404."""
        file = self._database.file(file_id)
        if file is None or not self._is_kept(file):
            raise not_found("file", file_id)
        return file

    def path(self, file_id: str) -> Path:
        """Return the path of an uploaded file's content."""
        return self._directory / f"{file_id}.jsonl"

    def _is_kept(self, file: UploadedFile) -> bool:
        return self._clock() < file.created_at + RETENTION_SECONDS
