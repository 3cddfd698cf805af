"""What an uploaded file holds, whatever its id is: the same content can be uploaded again at any time."""

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
    """Return the name of the uploaded file with this content: its SHA-256 (hex)."""
    return f"{content}.jsonl"


def sha256_in_name(file_name: str | None) -> str | None:
    """Return the SHA-256 (hex) that a file is named for; None where it has another name."""
    match = _NAMED_FOR_CONTENT.fullmatch(file_name or "")
    return None if match is None else match[1]


def sha256_of_file(client: SiliconFlowClient, file_id: str) -> str | None:
    """Return the SHA-256 (hex) of an uploaded file's bytes; None where nothing tells it but the id.

    Told by the file's name in the list of files; one that the list does not show is read.
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
        log.warning("could not read file %s, so only its id tells what it holds: %s", word(file_id), error)
        return None
