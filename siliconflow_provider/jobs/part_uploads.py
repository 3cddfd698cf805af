"""Upload the parts of a round's file, unless the service already has them."""

from __future__ import annotations

import logging
from pathlib import Path

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.errors import SiliconFlowError
from siliconflow_provider.batches import file_name
from siliconflow_provider.inputs import FilePart, Part

log = logging.getLogger(__name__)


class PartUploads:
    """The uploaded parts of a round's file. Threads may share it, each for its own part.

    :param path: the round's file
    """

    def __init__(self, client: SiliconFlowClient, path: Path) -> None:
        self._client = client
        self._path = path
        self._ids = self._listed()

    def _listed(self) -> dict[str | None, str]:
        """Return the ids of the files that the service lists, by name."""
        try:
            return {file.filename: file.id for file in self._client.list_files()}
        except SiliconFlowError as error:
            log.warning("could not list the uploaded files, uploading all parts: %s", error)
            return {}

    def known_id(self, part: Part) -> str:
        """Return the id of a part's file; empty if none is known."""
        return self._ids.get(file_name(part.sha256), "")

    def upload(self, part: Part) -> str:
        """Return the id of a part's file, after uploading it if none is known.

        :raises SiliconFlowError: if the upload fails
        """
        name = file_name(part.sha256)
        if name not in self._ids:
            with FilePart(self._path, part) as content:
                self._ids[name] = self._client.upload_file(content, filename=name).id
        return self._ids[name]
