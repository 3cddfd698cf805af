"""The operator that uploads request files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from siliconflow_provider.api.redaction import without_credentials
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.exceptions import InvalidInputError
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.operators.arguments import as_path_text
from siliconflow_provider.operators.connection import ConnectionMixin
from siliconflow_provider.operators.final_errors import final_if_refused
from siliconflow_provider.operators.reporting import ReportingMixin
from siliconflow_provider.wording import counted

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import File
    from siliconflow_provider.inputs import Part


class UploadFileOperator(ReportingMixin, ConnectionMixin, BaseOperator):
    """Check a request file and upload it; return the file id.

    Every line is checked before anything is uploaded. The lines are uploaded as they are in the file, without blank
    lines and byte order mark. The name of the upload contains the hash of its content, and a file that the service
    already has is used, so a retry does not upload it again.

    :param file_path: a JSONL file of at most 5,000 requests and 1 GB: a local path, or a URL that Airflow's object
        storage supports, such as `s3://bucket/key`. `BatchInferenceOperator` cuts larger files
    :param siliconflow_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = ("file_path", "siliconflow_conn_id")

    def __init__(
        self, *, file_path: str | os.PathLike[str], siliconflow_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.file_path = as_path_text(file_path)
        self.siliconflow_conn_id = siliconflow_conn_id

    @final_if_refused
    def execute(self, context: Context) -> str:
        """Return the id of the uploaded file."""
        from siliconflow_provider.api.limits import MAXIMUM_FILE_BYTES, MAXIMUM_FILE_LINES
        from siliconflow_provider.inputs import UPLOAD, InvalidRequestFileError, RequestBuilder, prepare
        from siliconflow_provider.jsonl import LONGEST_LINE, line_blocks, read_chunks
        from siliconflow_provider.storage import open_for_reading, storage_path, temporary_disk

        name = printable(without_credentials(self.file_path))
        with temporary_disk(), TemporaryFile(prefix="siliconflow-") as checked:
            with open_for_reading(storage_path(self.file_path, "file_path"), "file_path") as source:
                blocks = line_blocks(read_chunks(source), LONGEST_LINE)
                try:
                    # A file is one batch.
                    prepared = prepare(
                        blocks, RequestBuilder(), checked, BytesIO(), name=name, purpose=UPLOAD,
                        most_lines=MAXIMUM_FILE_LINES, most_bytes=MAXIMUM_FILE_BYTES,
                    )  # fmt: skip
                except InvalidRequestFileError as error:
                    raise InvalidInputError(str(error)) from None
            if prepared.model_conflict:
                self.log.warning(
                    "not all lines of %s name the same model, so set model= on the batch, or it will fail: %s",
                    name, prepared.model_conflict,
                )  # fmt: skip
            checked.seek(0)
            return self._upload_once(self.hook.get_conn(), checked, prepared.parts[0])

    def _upload_once(self, client: SiliconFlowClient, checked: IO[bytes], part: Part) -> str:
        from siliconflow_provider.batches import file_name

        path, name = printable(without_credentials(self.file_path)), file_name(part.sha256)
        uploaded = self._find_uploaded(client, name, part.bytes)
        if uploaded is not None:
            self.log.info("the service already has %s as file %s", path, uploaded.id)
            return uploaded.id
        file = client.upload_file(checked, filename=name)
        size = f"{counted(part.lines, 'request')}, {counted(part.bytes, 'byte')}"
        self.log.info("uploaded %s as file %s: %s", path, file.id, size)
        return file.id

    def _find_uploaded(self, client: SiliconFlowClient, name: str, size: int) -> File | None:
        """Return the file with this content if the list shows one. The list may lack a file that exists."""
        from siliconflow_provider.api.errors import SiliconFlowError

        try:
            same = [file for file in client.list_files() if file.filename == name and file.bytes in (None, size)]
        except SiliconFlowError as error:
            self.log.warning("could not list uploaded files, so this file may be uploaded a second time: %s", error)
            return None
        return min(same, key=lambda file: (str(file.created_at), file.id), default=None)
