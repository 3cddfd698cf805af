"""Identify uploaded files by the SHA-256 of their content: the same content may be uploaded under several ids."""

from __future__ import annotations

import hashlib
import logging
import re
from tempfile import TemporaryFile

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.api.service_texts import word

log = logging.getLogger(__name__)

_NAMED_FOR_CONTENT = re.compile(r"([0-9a-f]{64})\.jsonl")


def file_name(content: str) -> str:
    """Return the name for uploading a file whose content has this SHA-256 (hex)."""
    return f"{content}.jsonl"


def sha256_in_name(file_name: str | None) -> str | None:
    """Return the SHA-256 (hex) in the name of a file; None if the name has another form."""
    match = _NAMED_FOR_CONTENT.fullmatch(file_name or "")
    return None if match is None else match[1]


def sha256_of_file(client: SiliconFlowClient, file_id: str) -> str | None:
    """Return the SHA-256 (hex) of an uploaded file's content; None if it is unknown.

    It is read from the file's name in the list of files. A file that is not listed is downloaded.
    """
    try:
        for file in client.list_files():
            if file.id == file_id:
                return sha256_in_name(file.filename)
        with TemporaryFile(prefix="siliconflow-") as content:
            client.download(file_id, content)
            content.seek(0)
            return hashlib.file_digest(content, "sha256").hexdigest()
    except SiliconFlowError as error:
        log.warning("could not read file %s, so only its id identifies its content: %s", word(file_id), error)
        return None
