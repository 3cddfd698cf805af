"""Operator that uploads request files to the service."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from siliconflow_provider.api.service_texts import first_names, printable
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.operators.connection import ConnectionMixin
from siliconflow_provider.wording import counted

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.api.models import File
    from siliconflow_provider.inputs import RequestFileReport


class UploadFileOperator(ConnectionMixin, BaseOperator):
    """Check a request file and upload it. Returns the file id.

    Every line is checked before the upload starts. The uploaded file is named after the hash of its content, and a
    file that is already at the service is used again, so a retry does not upload it twice.

    :param file_path: a JSONL file of at most 5,000 requests and 1 GB: a local path, or any URL of Airflow's object
        storage, such as `s3://bucket/key`
    :param siliconflow_conn_id: id of the Airflow connection
    """

    template_fields: Sequence[str] = ("file_path", "siliconflow_conn_id")

    def __init__(self, *, file_path: str, siliconflow_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file_path = file_path
        self.siliconflow_conn_id = siliconflow_conn_id

    def execute(self, context: Context) -> str:
        """Check and upload the file, and return its id."""
        from siliconflow_provider.inputs import check_request_file
        from siliconflow_provider.jsonl import lines_within
        from siliconflow_provider.storage import open_for_reading, storage_path, temporary_disk

        with temporary_disk(), TemporaryFile(prefix="siliconflow-") as checked:
            with open_for_reading(storage_path(self.file_path, "file_path"), "file_path") as source:
                report = check_request_file(lines_within(source), checked)
            report.raise_for_problems(printable(self.file_path))
            self._log_models(report)
            checked.seek(0)
            return self._upload_once(self.hook.get_conn(), checked, report)

    def _upload_once(self, client: SiliconFlowClient, checked: IO[bytes], report: RequestFileReport) -> str:
        from siliconflow_provider.batches import file_name

        name = file_name(report.sha256)
        found = self._uploaded(client, name, report.bytes)
        if found is not None:
            self.log.info("%s was already uploaded, as file %s", printable(self.file_path), found.id)
            return found.id
        file = client.upload_file(checked, filename=name)
        self.log.info(
            "uploaded %s as file %s: %s, %s",
            printable(self.file_path), file.id, counted(report.lines, "request"), counted(report.bytes, "byte"),
        )  # fmt: skip
        return file.id

    def _uploaded(self, client: SiliconFlowClient, name: str, size: int) -> File | None:
        """Return the uploaded file with this name and size, or None if the service does not list one."""
        from siliconflow_provider.api.errors import SiliconFlowError

        try:
            same = [file for file in client.list_files() if file.filename == name and file.bytes in (None, size)]
        except SiliconFlowError as error:
            self.log.warning("could not list the uploaded files, uploading the file (maybe again): %s", error)
            return None
        return min(same, key=lambda file: (str(file.created_at), file.id), default=None)

    def _log_models(self, report: RequestFileReport) -> None:
        """Warn if the lines do not all name the same model: the batch must then set its own."""
        if len(report.models) > 1 or None in report.models:
            named = first_names(f"{name or 'none'} (line {line:,})" for name, line in report.models.items())
            self.log.warning(
                "lines of %s name different models or none: %s. The batch needs model=, or the service rejects it",
                printable(self.file_path), named,
            )  # fmt: skip
