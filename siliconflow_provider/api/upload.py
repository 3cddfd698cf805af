"""The form of an upload, which streams a file object."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from requests_toolbelt import MultipartEncoder

from siliconflow_provider.api.errors import InvalidRequestError


def default_name(fileobj: IO[bytes]) -> str:
    """Return the name of a file object's file, or a general one if it has none."""
    # The name of a temporary file can be a number or None.
    name = getattr(fileobj, "name", None)
    return Path(name).name if isinstance(name, str) else "requests.jsonl"


def upload_form(fileobj: IO[bytes], end: int, name: str) -> MultipartEncoder:
    """Return the form that uploads a file object from its position to `end`, streaming."""
    content = _Content(fileobj, end, name)
    return MultipartEncoder({"purpose": "batch", "file": (name, content, "application/jsonl")})


class _Content:
    """The content of a form's file: the file object from its position to `end`.

    MultipartEncoder would take the size of a bare file object from its descriptor, which is wrong for a compressed
    file, or copy the whole file.
    """

    def __init__(self, fileobj: IO[bytes], end: int, name: str) -> None:
        self._fileobj = fileobj
        self._name = name
        self.len = end - fileobj.tell()

    def read(self, size: int = -1) -> bytes:
        block = self._fileobj.read(self.len if size < 0 else min(size, self.len))
        if self.len and not block:
            raise InvalidRequestError(f"file {self._name} became shorter while it was uploaded: upload it again")
        self.len -= len(block)
        return block
